import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOf } from '../../src/delivery/smtp-outcome.ts';

test('a code is three digits and then a space, a hyphen or the end', () => {
  const codes = ['250 ok', '250', '250-a\n250 b', '2500 text', '25 ok', '250ok', 'ok 250'].map(codeOf);
  assert.deepEqual(codes, [250, 250, 250, 0, 0, 0, 0]);
});
