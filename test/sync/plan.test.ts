import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { newEntry } from '../../src/sync/entry.ts';
import type { DeliveryRecord, Entry } from '../../src/sync/entry.ts';
import type { Evidence, Row } from '../../src/sync/identity.ts';
import { isQuiet, plan } from '../../src/sync/plan.ts';
import type { Plan, PlanInput, Policy } from '../../src/sync/plan.ts';

const NOW = 1_800_000_000_000;
const DAY = 86_400_000;
const POLICY: Policy = {
  deliverTo: ['a', 'b'],
  retention: 'delete',
  firstPoll: 'deliver',
  maxMessageSize: 1000,
  maxMessagesPerPoll: 100,
};

function entry(uniqueId: string, changes: Partial<Entry> = {}): Entry {
  return { ...newEntry(uniqueId, 100, NOW - DAY), fingerprint: `fp-${uniqueId}`, sha: `sha-${uniqueId}`, ...changes };
}

function delivery(state: DeliveryRecord['state'], next = 0): DeliveryRecord {
  return { state, attempt: 1, at: NOW - 1000, next, since: NOW - 1000, inDoubt: 0, said: 'said', recipients: {} };
}

function rowsOf(...uniqueIds: string[]): Row[] {
  return uniqueIds.map((uniqueId, index) => ({ messageNumber: index + 1, uniqueId, size: 100 }));
}

function planned(changes: Partial<PlanInput> & { known?: readonly Entry[]; found?: Record<number, Evidence> }): Plan {
  const { known = [], found = {}, ...rest } = changes;
  const entries = new Map<string, Entry[]>();
  for (const each of known) entries.set(each.uniqueId, [...(entries.get(each.uniqueId) ?? []), each]);
  return plan({
    policy: POLICY,
    now: NOW,
    first: false,
    rows: [],
    quiet: 0,
    wasEmpty: false,
    entries,
    evidence: new Map(Object.entries(found).map(([messageNumber, seen]) => [Number(messageNumber), seen])),
    opensAt: () => 0,
    inFlight: () => false,
    ...rest,
  });
}

const retrieved = (todo: Plan): string[] => todo.retrieve.map(({ row }) => row.uniqueId);
const deleted = (todo: Plan): string[] => todo.delete.map(({ entry: each }) => each.uniqueId);

suite('the plan of a poll', () => {
  test('new mail is retrieved, in order', () =>
    assert.deepEqual(retrieved(planned({ rows: rowsOf('x', 'y') })), ['x', 'y']));

  test('no more than a poll may, and the rest is said to be left', () => {
    const todo = planned({ rows: rowsOf('x', 'y', 'z'), policy: { ...POLICY, maxMessagesPerPoll: 2 } });
    assert.deepEqual([retrieved(todo), todo.more], [['x', 'y'], true]);
  });

  test('messages that may be known keep no new one waiting, and have their turn one after the other', () => {
    const policy: Policy = { ...POLICY, retention: 'keep', maxMessagesPerPoll: 2 };
    const twins = Array.from({ length: 6 }, (_, index) => ({ messageNumber: index + 1, uniqueId: 't', size: 100 }));
    const known = [
      entry('t', { state: 'kept', fingerprint: '~' }),
      entry('t', { state: 'kept', fingerprint: '~', copy: 1 }),
    ];
    const found = Object.fromEntries(twins.map(({ messageNumber }) => [messageNumber, { fingerprint: '~' }]));
    const rows = [...twins, { messageNumber: 7, uniqueId: 'x', size: 1 }];
    const looked = new Set<number>();
    for (let now = NOW; now < NOW + 100 * 300_000; now += 300_000) {
      const todo = planned({ rows, known, found, policy, now });
      assert.deepEqual([todo.retrieve.length, todo.retrieve.at(-1)?.row.uniqueId, todo.more], [2, 'x', true]);
      looked.add(todo.retrieve[0]?.row.messageNumber ?? 0);
    }
    assert.equal(looked.size, 6);
  });

  test('too large: quarantined without being retrieved', () => {
    const todo = planned({ rows: [{ messageNumber: 1, uniqueId: 'x', size: 1001 }] });
    assert.deepEqual(retrieved(todo), []);
    assert.equal(todo.put[0]?.after.state, 'quarantined');
    assert.match(todo.put[0]?.after.reason ?? '', /too large/);
  });

  test('the first poll skips what lies there, if told to; later polls do not', () => {
    const policy: Policy = { ...POLICY, firstPoll: 'skip' };
    const first = planned({ rows: rowsOf('x', 'y'), first: true, policy });
    assert.deepEqual([retrieved(first), first.put.map(({ after }) => after.state)], [[], ['skipped', 'skipped']]);
    assert.deepEqual(retrieved(planned({ rows: rowsOf('x'), policy })), ['x']);
  });

  test('twins are told apart before they are skipped', () => {
    const policy: Policy = { ...POLICY, firstPoll: 'skip' };
    const rows = rowsOf('x', 'x');
    assert.equal(planned({ rows, first: true, policy }).identify.length, 2);
    const found = { 1: { fingerprint: 'p' }, 2: { fingerprint: 'p' } };
    const todo = planned({ rows, first: true, policy, found });
    assert.deepEqual(
      todo.put.map(({ after }) => [after.fingerprint, after.copy]),
      [
        ['p', 0],
        ['p', 1],
      ],
    );
  });

  test('a destination left the config: what is left decides', () => {
    const policy: Policy = { ...POLICY, deliverTo: ['a'] };
    const deliveries = { a: delivery('rejected'), b: delivery('deferred', NOW + DAY) };
    const rejected = planned({ rows: rowsOf('x'), known: [entry('x', { deliveries })], policy });
    assert.deepEqual([retrieved(rejected), rejected.put[0]?.after.state], [[], 'quarantined']);
    const others = { a: delivery('confirmed'), b: delivery('deferred', NOW + DAY) };
    const confirmed = planned({ rows: rowsOf('x'), known: [entry('x', { deliveries: others })], policy });
    assert.deepEqual([deleted(confirmed), confirmed.put[0]?.after.state], [['x'], 'confirmed']);
  });

  test('discarded unseen: its header is noted before it is deleted', () => {
    const known = [entry('x', { state: 'discarded', fingerprint: '', sha: '' })];
    assert.equal(planned({ rows: rowsOf('x'), known }).identify.length, 1);
    const todo = planned({ rows: rowsOf('x'), known, found: { 1: { fingerprint: 'p' } } });
    assert.deepEqual([todo.put[0]?.after.fingerprint, todo.delete[0]?.entry.fingerprint], ['p', 'p']);
  });

  test('confirmed everywhere: deleted without being retrieved', () => {
    const known = [entry('x', { deliveries: { a: delivery('confirmed'), b: delivery('confirmed') } })];
    const todo = planned({ rows: rowsOf('x'), known });
    assert.deepEqual([retrieved(todo), deleted(todo)], [[], ['x']]);
  });

  test('confirmed everywhere, and to be kept: nothing but a note', () => {
    const known = [entry('x', { deliveries: { a: delivery('confirmed'), b: delivery('confirmed') } })];
    const todo = planned({ rows: rowsOf('x'), known, policy: { ...POLICY, retention: 'keep' } });
    assert.deepEqual([retrieved(todo), deleted(todo), todo.put.at(-1)?.after.state], [[], [], 'kept']);
  });

  test('deleteAfter: at its time, not before', () => {
    const policy: Policy = { ...POLICY, retention: { deleteAfter: 2 * DAY } };
    const young = planned({ rows: rowsOf('x'), known: [entry('x', { state: 'kept' })], policy });
    assert.deepEqual([deleted(young), young.next], [[], NOW + DAY]);
    const old = planned({
      rows: rowsOf('x'),
      known: [entry('x', { state: 'kept', firstSeen: NOW - 2 * DAY })],
      policy,
    });
    assert.deepEqual(deleted(old), ['x']);
  });

  test('a deferred delivery waits for its time, and is retrieved at it', () => {
    const at = (next: number): Plan =>
      planned({
        rows: rowsOf('x'),
        known: [entry('x', { deliveries: { a: delivery('confirmed'), b: delivery('deferred', next) } })],
      });
    assert.deepEqual([retrieved(at(NOW + 5)), at(NOW + 5).next], [[], NOW + 5]);
    assert.deepEqual(retrieved(at(NOW)), ['x']);
  });

  test('a delivery that a crash cut off is due at once; one that still runs is not', () => {
    const known = [entry('x', { deliveries: { a: delivery('confirmed'), b: delivery('started') } })];
    assert.deepEqual(retrieved(planned({ rows: rowsOf('x'), known })), ['x']);
    assert.deepEqual(retrieved(planned({ rows: rowsOf('x'), known, inFlight: (_, name) => name === 'b' })), []);
  });

  test('mail bound only for paused destinations is not retrieved', () => {
    const opensAt = (): number => NOW + 60_000;
    const todo = planned({ rows: rowsOf('x'), opensAt });
    assert.deepEqual([retrieved(todo), todo.next], [[], NOW + 60_000]);
    assert.deepEqual(retrieved(planned({ rows: rowsOf('x'), opensAt: (name) => (name === 'a' ? NOW + 1 : 0) })), ['x']);
  });

  test('quarantined and skipped mail is left alone', () => {
    const known = [entry('x', { state: 'quarantined' }), entry('y', { state: 'skipped' })];
    const todo = planned({ rows: rowsOf('x', 'y'), known });
    assert.deepEqual([retrieved(todo), deleted(todo), todo.put], [[], [], []]);
  });

  test('discarded by a person: deleted, or left where retention keeps', () => {
    const known = [entry('x', { state: 'discarded' })];
    assert.deepEqual(deleted(planned({ rows: rowsOf('x'), known })), ['x']);
    const kept = planned({ rows: rowsOf('x'), known, policy: { ...POLICY, retention: 'keep' } });
    assert.deepEqual([deleted(kept), kept.put.at(-1)?.after.state], [[], 'skipped']);
  });

  test('a pending delete is sent again, once the message is known to be the same', () => {
    const known = [entry('x', { state: 'deleting' })];
    assert.equal(planned({ rows: rowsOf('x'), known }).identify.length, 1);
    const todo = planned({ rows: rowsOf('x'), known, found: { 1: { fingerprint: 'fp-x' } } });
    assert.deepEqual([deleted(todo), retrieved(todo)], [['x'], []]);
  });
});

suite('absence', () => {
  test('one absence forgets nothing, the second forgets what was deleted', () => {
    const once = planned({ rows: rowsOf('y'), known: [entry('x', { state: 'deleted' })] });
    assert.deepEqual([once.forget, once.put.map(({ after }) => after.absences)], [[], [1]]);
    const twice = planned({
      rows: rowsOf('y'),
      known: [entry('x', { state: 'deleted', absences: 1, absentSince: NOW - 1 })],
    });
    assert.deepEqual(
      twice.forget.map(({ uniqueId }) => uniqueId),
      ['x'],
    );
  });

  test('a pending delete whose message is gone has worked, if it stays away', () => {
    const pending = entry('x', { state: 'deleting' });
    const once = planned({ rows: rowsOf('y'), known: [pending] });
    assert.deepEqual(
      [once.put.map(({ after }) => [after.state, after.absences]), once.forget],
      [[['deleting', 1]], []],
    );
    const absent = { ...pending, absences: 1, absentSince: NOW - 1 };
    assert.equal(planned({ rows: rowsOf('y'), known: [absent] }).forget.length, 0);
    assert.equal(planned({ rows: rowsOf('y'), known: [{ ...absent, absentSince: NOW - DAY }] }).forget.length, 1);
    const found = { 1: { fingerprint: 'fp-x' } };
    assert.equal(planned({ rows: rowsOf('x'), known: [absent], found }).retrieve[0]?.compare, true);
  });

  test('a maildrop that is suddenly empty proves no pending delete', () => {
    const known = [entry('x', { state: 'deleting' }), entry('y', { state: 'deleted' })];
    const todo = planned({ known });
    assert.deepEqual(
      todo.put.map(({ after }) => [after.uniqueId, after.absences]),
      [['y', 1]],
    );
  });

  test('what we did not delete is remembered for a day of absences', () => {
    const known = [entry('x', { state: 'kept', absences: 7, absentSince: NOW - DAY + 1 })];
    assert.deepEqual(planned({ rows: rowsOf('y'), known }).forget, []);
    const old = [entry('x', { state: 'kept', absences: 7, absentSince: NOW - DAY })];
    assert.equal(planned({ rows: rowsOf('y'), known: old }).forget.length, 1);
  });

  test('an empty listing after a full one counts for nothing', () => {
    const known = [entry('x', { state: 'kept' }), entry('y', { deliveries: { a: delivery('deferred') } })];
    const todo = planned({ known });
    assert.deepEqual([todo.put, todo.forget], [[], []]);
    assert.equal(planned({ known, wasEmpty: true }).put.length, 2);
  });

  test('who comes back is no longer absent', () => {
    const known = [entry('x', { state: 'kept', absences: 1, absentSince: NOW - 5 })];
    const todo = planned({
      rows: rowsOf('x'),
      known,
      policy: { ...POLICY, retention: 'keep' },
      found: { 1: { fingerprint: 'fp-x' } },
    });
    assert.deepEqual([todo.put[0]?.after.absences, todo.put[0]?.after.absentSince, retrieved(todo)], [0, 0, []]);
  });

  test('a kept message needs a look only if something speaks for one', () => {
    const kept = entry('x', { state: 'kept' });
    assert.ok(isQuiet(kept, 100, { ...POLICY, retention: 'keep' }, NOW));
    assert.ok(!isQuiet(kept, 101, { ...POLICY, retention: 'keep' }, NOW));
    assert.ok(!isQuiet({ ...kept, absences: 1 }, 100, { ...POLICY, retention: 'keep' }, NOW));
    assert.ok(!isQuiet(kept, 100, { ...POLICY, retention: { deleteAfter: DAY } }, NOW));
    assert.ok(!isQuiet(entry('x'), 100, POLICY, NOW));
  });
});

suite('a provider that moves', () => {
  const policy: Policy = { ...POLICY, retention: 'keep' };
  const old = Array.from({ length: 10 }, (_, index) =>
    entry(`old${index}`, { state: 'kept', fingerprint: `fp${index}` }),
  );
  const rows = rowsOf(...Array.from({ length: 10 }, (_, index) => `new${index}`));

  test('all unique-ids change: every message is looked at, and recognised', () => {
    assert.equal(planned({ rows, known: old, policy }).identify.length, 10);
    const found = Object.fromEntries(rows.map((_, index) => [index + 1, { fingerprint: `fp${index}` }]));
    const todo = planned({ rows, known: old, policy, found });
    assert.deepEqual([retrieved(todo), todo.forget.length, todo.unmatched], [[], 10, 0]);
    assert.deepEqual(todo.put.map(({ after }) => [after.uniqueId, after.state, after.fingerprint])[3], [
      'new3',
      'kept',
      'fp3',
    ]);
  });

  test('what is not recognised waits for a person', () => {
    const found = Object.fromEntries(
      rows.map((_, index) => [index + 1, { fingerprint: index < 6 ? `fp${index}` : `other${index}` }]),
    );
    const todo = planned({ rows, known: old, policy, found });
    assert.deepEqual([retrieved(todo), todo.unmatched], [[], 4]);
    assert.equal(todo.put.filter(({ after }) => after.state === 'quarantined').length, 4);
  });

  test('if nearly all are recognised, the rest is new mail', () => {
    const more = rowsOf(...Array.from({ length: 12 }, (_, index) => `new${index}`));
    const found = Object.fromEntries(more.map((_, index) => [index + 1, { fingerprint: `fp${index}` }]));
    const todo = planned({ rows: more, known: old, policy, found });
    assert.deepEqual([retrieved(todo), todo.unmatched], [['new10', 'new11'], 0]);
  });

  test('a move after days of an empty maildrop, and one that comes in pieces', () => {
    const absent = old.map((each) => ({ ...each, absences: 2, absentSince: NOW - 1000 }));
    const few = rows.slice(0, 3);
    for (const known of [old, absent]) {
      assert.equal(planned({ rows: few, known, policy }).identify.length, 3);
      const found = { 1: { fingerprint: 'fp0' }, 2: { fingerprint: 'fp1' }, 3: { fingerprint: 'other' } };
      const todo = planned({ rows: few, known, policy, found });
      assert.deepEqual([retrieved(todo), todo.forget.length, todo.unmatched], [['new2'], 2, 0]);
    }
  });

  test('a maildrop that a person emptied: what comes later is new mail, however much', () => {
    const absent = old.map((each) => ({ ...each, absences: 2, absentSince: NOW - 1000 }));
    const found = Object.fromEntries(rows.map((_, index) => [index + 1, { fingerprint: `other${index}` }]));
    assert.equal(retrieved(planned({ rows, known: absent, policy, found })).length, 10);
    // But nobody knows of messages that were never looked at.
    const unseen = rows.map((_, index) =>
      entry(`old${index}`, { fingerprint: '', state: 'skipped', absences: 2, absentSince: NOW - 1000 }),
    );
    assert.equal(planned({ rows, known: unseen, policy, found }).unmatched, 10);
  });

  test('a pending delete moves too', () => {
    const known = [...old, entry('pending', { state: 'deleting', fingerprint: 'fp-p' })];
    const found = Object.fromEntries(
      [...rows, rows[0]].map((_, index) => [index + 1, { fingerprint: index < 10 ? `fp${index}` : 'fp-p' }]),
    );
    const todo = planned({ rows: [...rows, { messageNumber: 11, uniqueId: 'p2', size: 9 }], known, policy, found });
    assert.deepEqual([retrieved(todo), deleted(todo), todo.unmatched], [[], ['p2'], 0]);
  });

  test('twins of the old server stay two on the new one', () => {
    const known = [...old, entry('t', { state: 'kept', fingerprint: 'fp-t', copy: 0 })];
    known.push(entry('t', { state: 'kept', fingerprint: 'fp-t', copy: 1 }));
    const twins = [11, 12].map((messageNumber) => ({ messageNumber, uniqueId: 't2', size: 100 }));
    const found = Object.fromEntries(
      Array.from({ length: 12 }, (_, index) => [index + 1, { fingerprint: index < 10 ? `fp${index}` : 'fp-t' }]),
    );
    const todo = planned({ rows: [...rows, ...twins], known, policy, found });
    const copies = todo.put.filter(({ after }) => after.uniqueId === 't2').map(({ after }) => after.copy);
    assert.deepEqual(copies, [0, 1]);
  });

  test('some gone and some new is an ordinary day', () => {
    const known = old.slice(0, 6);
    const todo = planned({ rows: rowsOf('old0', 'old1', 'old2', 'old3', 'new8', 'new9'), known, policy });
    assert.deepEqual([retrieved(todo), todo.identify], [['new8', 'new9'], []]);
  });

  test('a listing cut short is no move, and forgets nothing', () => {
    const todo = planned({ rows: rowsOf('old0', 'old1'), known: old, policy });
    assert.deepEqual([retrieved(todo), todo.identify, todo.forget], [[], [], []]);
  });
});
