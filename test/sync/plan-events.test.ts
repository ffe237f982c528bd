import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { newEntry } from '../../src/sync/entry.ts';
import type { Entry } from '../../src/sync/entry.ts';
import { planEvents } from '../../src/sync/plan-events.ts';

const NOW = 1_800_000_000_000;

function entry(uniqueId: string, changes: Partial<Entry> = {}): Entry {
  return { ...newEntry(uniqueId, 100, NOW), ...changes };
}

const told = (todo: Partial<Parameters<typeof planEvents>[0]>): string[] =>
  planEvents({ put: [], forget: [], renamed: [], ...todo }, NOW).map(({ event, uniqueId }) => `${uniqueId} ${event}`);

suite('what a plan tells the audit trail', () => {
  test('new mail; what was there before the first poll is no event', () => {
    assert.deepEqual(told({ put: [{ before: undefined, after: entry('new') }] }), ['new seen']);
    assert.deepEqual(told({ put: [{ before: undefined, after: entry('old', { state: 'skipped' }) }] }), []);
    const after = entry('large', { state: 'quarantined', reason: 'too large' });
    assert.deepEqual(told({ put: [{ before: undefined, after }] }), ['large seen', 'large quarantined']);
    assert.deepEqual(told({ put: [{ before: after, after: { ...after, absences: 1 } }] }), []);
  });

  test('what goes: deleted by us if a delete was pending, gone without our doing if not, told before if QUIT had said so', () => {
    const forget = [entry('a', { state: 'deleting' }), entry('b', { state: 'kept' }), entry('c', { state: 'deleted' })];
    assert.deepEqual(told({ forget }), ['a deleted', 'b vanished']);
  });

  test('a message under another unique-id is neither gone nor new', () => {
    const from = entry('old', { state: 'quarantined' });
    const to = { ...from, uniqueId: 'new' };
    const todo = { forget: [from], put: [{ before: undefined, after: to }], renamed: [{ from, to }] };
    assert.deepEqual(told(todo), ['old renamed', 'new renamed']);
  });
});
