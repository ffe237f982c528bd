import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MUTATIONS } from './mutation-rules.ts';

const ROOT = join(import.meta.dirname, '..');

test('each mutation has one place in the source, and tests that are there', () => {
  const stale = MUTATIONS.filter(({ file, find }) => readFileSync(join(ROOT, file), 'utf8').split(find).length !== 2);
  assert.deepEqual(
    stale.map(({ rule }) => rule),
    [],
  );
  for (const { tests } of MUTATIONS) for (const file of tests) assert.ok(existsSync(join(ROOT, file)), file);
});
