// A part of the fuzzing of the engine, the same each time; `npm run test:fuzz` runs the whole.

import { test } from 'node:test';
import { fuzz } from './fuzz.ts';

test('4000 inputs from a fixed seed', () => fuzz(4000, 7));
