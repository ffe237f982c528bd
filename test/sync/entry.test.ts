import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { IllegalStep, mayDelete, newEntry, startDelivery, step } from '../../src/sync/entry.ts';
import type { Entry, EntryState } from '../../src/sync/entry.ts';

const STATES: readonly EntryState[] = [
  'open',
  'confirmed',
  'kept',
  'deleting',
  'deleted',
  'quarantined',
  'discarded',
  'skipped',
];

function inState(state: EntryState): Entry {
  return { ...newEntry('u', 1, 1), state };
}

suite('the states of a message', () => {
  test('DELE can follow from confirmed, kept and discarded alone, and again from what it led to', () => {
    const deletable = STATES.filter((state) => mayDelete(inState(state)));
    assert.deepEqual(deletable, ['confirmed', 'kept', 'deleting', 'deleted', 'discarded']);
  });

  for (const [from, to] of [
    ['open', 'deleting'],
    ['open', 'deleted'],
    ['quarantined', 'deleting'],
    ['skipped', 'deleting'],
    ['quarantined', 'confirmed'],
    ['deleted', 'open'],
  ] as const) {
    test(`${from} -> ${to} is no step`, () => assert.throws(() => step(inState(from), to), IllegalStep));
  }

  test('an attempt that a crash cut off counts as in doubt when the next begins', () => {
    const first = startDelivery(newEntry('u', 1, 1), 'a', 10);
    assert.deepEqual([first.deliveries['a']?.attempt, first.deliveries['a']?.inDoubt], [1, 0]);
    const second = startDelivery(first, 'a', 20);
    assert.deepEqual([second.deliveries['a']?.attempt, second.deliveries['a']?.inDoubt], [2, 1]);
  });
});
