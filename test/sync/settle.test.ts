import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import type { Outcome, OutcomeKind } from '../../src/delivery/destination.ts';
import { newEntry, startDelivery } from '../../src/sync/entry.ts';
import type { DeliveryRecord, Entry } from '../../src/sync/entry.ts';
import {
  AMBIGUOUS_LOGINS,
  afterAttempt,
  afterDelivery,
  afterSession,
  backoff,
  ceilingOf,
  CLOSED,
  DELIVERY_BACKOFF,
  retriedNow,
  signOf,
} from '../../src/sync/retry.ts';
import type { SessionFailure } from '../../src/sync/retry.ts';
import { redirected, released, retrievalFailed, settle, withdraw } from '../../src/sync/settle.ts';
import type { SettlePolicy } from '../../src/sync/settle.ts';

const NOW = 1_800_000_000_000;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const POLICY: SettlePolicy = {
  deliverTo: ['a', 'b'],
  retention: 'delete',
  giveUpAfter: 5 * DAY,
  backoff: DELIVERY_BACKOFF,
};
const KINDS = fc.constantFrom<OutcomeKind>('confirmed', 'deferred', 'rejected', 'inDoubt');

function started(changes: Partial<Entry> = {}): Entry {
  return startDelivery(startDelivery({ ...newEntry('u', 1, NOW), ...changes }, 'a', NOW), 'b', NOW);
}

function outcome(kind: OutcomeKind, recipients?: Record<string, OutcomeKind>): Outcome {
  const bare = { kind, said: kind, scope: 'message' as const };
  if (!recipients) return bare;
  const all = Object.entries(recipients).map(([address, each]) => [address, { kind: each, said: each }]);
  return { ...bare, recipients: Object.fromEntries(all) as NonNullable<Outcome['recipients']> };
}

function after(entry: Entry, name: string, result: Outcome, policy = POLICY, now = NOW + 1): Entry {
  return settle(entry, name, result, policy, now, 0.5);
}

suite('what an outcome makes of a message', () => {
  test('confirmed by all, in any order: confirmed, or kept', () => {
    const half = after(started(), 'b', outcome('confirmed'));
    assert.equal(half.state, 'open');
    assert.equal(after(half, 'a', outcome('confirmed')).state, 'confirmed');
    assert.equal(after(half, 'a', outcome('confirmed'), { ...POLICY, retention: 'keep' }).state, 'kept');
  });

  test('rejected waits for what still runs, then for a person, with the words of who rejected', () => {
    const half = after(started(), 'a', outcome('rejected'));
    assert.equal(half.state, 'open');
    const whole = after(half, 'b', outcome('confirmed'));
    assert.deepEqual([whole.state, whole.reason], ['quarantined', 'a: rejected']);
  });

  test('in doubt counts, and is tried again', () => {
    const doubted = after(started(), 'a', outcome('inDoubt')).deliveries['a'];
    assert.deepEqual([doubted?.state, doubted?.inDoubt, (doubted?.next ?? 0) > NOW], ['deferred', 1, true]);
  });

  test('deferred for too long is given up', () => {
    const late = NOW + 5 * DAY;
    const record = after(started(), 'a', outcome('deferred'), POLICY, late).deliveries['a'];
    assert.deepEqual([record?.state, record?.said], ['rejected', 'given up: deferred']);
  });

  test('too long counts from the first attempt, or the first one after a person: not from when the message was seen', () => {
    const late = NOW + 5 * DAY;
    const stateOf = (entry: Entry, name: string): string | undefined => entry.deliveries[name]?.state;
    const waited = startDelivery(newEntry('u', 1, NOW - 9 * DAY), 'a', NOW);
    assert.equal(stateOf(after(waited, 'a', outcome('deferred')), 'a'), 'deferred');
    const again = startDelivery(after(waited, 'a', outcome('deferred')), 'a', late);
    assert.equal(
      stateOf(after(again, 'a', outcome('deferred'), POLICY, late), 'a'),
      'rejected',
      'attempts are one series',
    );

    const givenUp = after(after(started(), 'b', outcome('confirmed')), 'a', outcome('deferred'), POLICY, late);
    assert.equal(givenUp.state, 'quarantined');
    for (const [name, entry] of [
      ['a', released(givenUp)],
      ['a', redirected(givenUp, ['a', 'b'], 'a', late)],
      ['x', redirected(givenUp, ['a', 'b'], 'x', late)],
    ] as const) {
      const begun = startDelivery(entry, name, late + HOUR);
      assert.equal(stateOf(after(begun, name, outcome('deferred'), POLICY, late + 4 * DAY), name), 'deferred');
      assert.equal(stateOf(after(begun, name, outcome('deferred'), POLICY, late + 6 * DAY), name), 'rejected');
    }
    // A fallback has its own time.
    const policy = { ...POLICY, deliverTo: ['a'], fallback: { a: 'f' } };
    const replaced = startDelivery(after(started(), 'a', outcome('deferred'), policy, late), 'f', late);
    assert.equal(stateOf(after(replaced, 'f', outcome('deferred'), policy, late + DAY), 'f'), 'deferred');
  });

  const cases: [string, Record<string, OutcomeKind>, Outcome, DeliveryRecord['state'], number][] = [
    ['who had it needs it no more', { x: 'confirmed' }, outcome('confirmed', { y: 'confirmed' }), 'confirmed', 0],
    ['who refused it still did', { x: 'rejected' }, outcome('confirmed', { y: 'confirmed' }), 'rejected', 0],
    [
      'who left the config is not waited for',
      { x: 'deferred' },
      outcome('confirmed', { y: 'confirmed' }),
      'confirmed',
      0,
    ],
    ['no connection says nothing of recipients', { x: 'inDoubt' }, outcome('deferred'), 'deferred', 0],
    ['refused before there were recipients', { x: 'confirmed', y: 'deferred' }, outcome('rejected'), 'rejected', 0],
    ['one in doubt', {}, outcome('inDoubt', { x: 'inDoubt', y: 'rejected' }), 'deferred', 1],
    ['one waits, one refuses', {}, outcome('deferred', { x: 'deferred', y: 'rejected' }), 'deferred', 0],
  ];
  for (const [name, before, now, state, doubts] of cases) {
    test(`recipients: ${name}`, () => {
      const entry = started();
      const records = Object.entries(before).map(([address, kind]) => [address, { kind, said: kind }]);
      const record = {
        ...(entry.deliveries['a'] as DeliveryRecord),
        recipients: Object.fromEntries(records) as DeliveryRecord['recipients'],
      };
      const result = after({ ...entry, deliveries: { ...entry.deliveries, a: record } }, 'a', now).deliveries['a'];
      assert.deepEqual([result?.state, result?.inDoubt], [state, doubts]);
    });
  }

  test('what a destination confirmed stays so, and nothing is confirmed that did not say so', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('a', 'b'), KINDS, fc.nat(10 * DAY)), { maxLength: 12 }),
        (steps) => {
          let entry = newEntry('u', 1, NOW);
          const said = new Set<string>();
          for (const [name, kind, later] of steps) {
            const { state } = entry.deliveries[name] ?? { state: 'deferred' };
            if (entry.state !== 'open' || state === 'confirmed' || state === 'rejected') continue;
            entry = after(startDelivery(entry, name, NOW + later), name, outcome(kind), POLICY, NOW + later);
            if (kind === 'confirmed') said.add(name);
          }
          for (const name of POLICY.deliverTo)
            assert.equal(entry.deliveries[name]?.state === 'confirmed', said.has(name));
          assert.equal(entry.state === 'confirmed', said.size === 2);
        },
      ),
    );
  });

  test('an attempt that never began does not count', () => {
    const record = withdraw(started(), 'a', NOW + 5).deliveries['a'];
    assert.deepEqual([record?.state, record?.attempt, record?.next], ['deferred', 0, NOW + 5]);
  });

  test('released by a person: what was rejected is due, what was confirmed is not, what was cut off stays in doubt', () => {
    const rejected = after(after(started(), 'a', outcome('rejected')), 'b', outcome('confirmed'));
    const again = released(rejected);
    assert.deepEqual([again.state, again.deliveries['a']?.state, again.deliveries['a']?.next], ['open', 'deferred', 0]);
    assert.equal(again.deliveries['b']?.state, 'confirmed');
    const cut = retrievalFailed(started(), 'gone', NOW, true);
    assert.match(cut.reason, /cannot be retrieved: gone/);
    assert.equal(startDelivery(released(cut), 'a', NOW).deliveries['a']?.inDoubt, 1);
  });
});

test('sent elsewhere by a person: only that is due, what was confirmed stays, and it confirms for those it replaces', () => {
  const rejected = after(after(started(), 'a', outcome('rejected')), 'b', outcome('confirmed'));
  const elsewhere = redirected(rejected, ['a', 'b'], 'x', NOW);
  const states = Object.fromEntries(Object.entries(elsewhere.deliveries).map(([name, { state }]) => [name, state]));
  assert.deepEqual(states, { a: 'waived', b: 'confirmed', x: 'deferred' });
  assert.equal(elsewhere.state, 'open');
  assert.equal(after(startDelivery(elsewhere, 'x', NOW), 'x', outcome('confirmed')).state, 'confirmed');
  assert.equal(after(startDelivery(elsewhere, 'x', NOW), 'x', outcome('rejected')).state, 'quarantined');
  // who has it already is not asked again
  assert.equal(redirected(rejected, ['a', 'b'], 'b', NOW).deliveries['b']?.state, 'confirmed');
  // released later: still only where the person sent it
  const refused = after(startDelivery(elsewhere, 'x', NOW), 'x', outcome('rejected'));
  const again = Object.entries(released(refused).deliveries).map(([name, { state }]) => `${name} ${state}`);
  assert.deepEqual(again, ['a waived', 'b confirmed', 'x deferred']);
  // the same one again: what it confirmed to recipients is not repeated
  assert.equal(redirected(rejected, ['a', 'b'], 'a', NOW).deliveries['a']?.state, 'deferred');
});

suite('when it is tried again', () => {
  test('never at once, never beyond the ceiling, which never falls', () => {
    const some = fc.record({ base: fc.integer({ min: 10, max: 1e6 }), cap: fc.integer({ min: 1e6, max: 1e9 }) });
    fc.assert(
      fc.property(
        some,
        fc.integer({ min: 1, max: 100_000 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (schedule, failures, random) => {
          const wait = backoff(schedule, failures, random);
          assert.ok(wait >= Math.floor(schedule.base / 10) && wait <= ceilingOf(schedule, failures));
          assert.ok(ceilingOf(schedule, failures + 1) >= ceilingOf(schedule, failures));
        },
      ),
    );
  });

  test('Retry-After is respected, up to a day, and nonsense is not', () => {
    const record = { attempt: 1, since: NOW, giveUpAfter: 5 * DAY, backoff: { base: 1000, cap: 1000 } };
    const at = (retryAfter: number): number =>
      afterDelivery({ kind: 'deferred', retryAfter }, record, NOW, 0.5).at - NOW;
    assert.deepEqual([at(60_000), at(9 * DAY), at(0), at(-5), at(Number.NaN)], [60_000, DAY, 500, 500, 500]);
  });

  const sessions: [string, SessionFailure, number, number, number, boolean][] = [
    ['in use', { kind: 'refused', responseCode: 'IN-USE' }, 1, 30_000, 90_000, false],
    ['in use for long', { kind: 'refused', responseCode: 'in-use' }, 20, 30_000, 90_000, true],
    [
      'login delay, as announced',
      { kind: 'refused', responseCode: 'LOGIN-DELAY', loginDelay: 900 },
      9,
      900_000,
      900_000,
      false,
    ],
    [
      'login delay, out of its mind',
      { kind: 'refused', responseCode: 'LOGIN-DELAY', loginDelay: 1e12 },
      1,
      DAY,
      DAY,
      false,
    ],
    ['server in trouble', { kind: 'refused', responseCode: 'SYS/TEMP' }, 1, 3000, 30_000, false],
    ['unknown detail', { kind: 'refused', responseCode: 'SYS/FOO' }, 1, 3000, 30_000, false],
    ['server wants a person', { kind: 'refused', responseCode: 'SYS/PERM' }, 1, 30_000, 300_000, true],
    ['wrong password', { kind: 'auth', responseCode: 'AUTH' }, 1, 30_000, 300_000, true],
    ['perhaps a wrong password', { kind: 'auth' }, AMBIGUOUS_LOGINS - 1, 30_000, 600_000, false],
    ['surely a wrong password', { kind: 'auth' }, AMBIGUOUS_LOGINS, 30_000, 1_200_000, true],
    ['no connection', { kind: 'connect' }, 1, 3000, 30_000, false],
    ['no connection for long', { kind: 'connect' }, 10, 3000, 1_800_000, true],
    ['certificate of another name', { kind: 'tls', permanent: true }, 1, 3000, 30_000, true],
  ];
  for (const [name, failure, failures, least, most, needsPerson] of sessions) {
    test(`session: ${name}`, () => {
      for (const random of [0, 0.3, 0.999]) {
        const hold = afterSession(failure, failures, NOW, random);
        assert.ok(hold.until >= NOW + least && hold.until <= NOW + most, String(hold.until - NOW));
        assert.equal(hold.needsPerson, needsPerson);
      }
    });
  }

  test('a breaker opens at the third failure, longer each time, and one success closes it', () => {
    let breaker = CLOSED;
    for (const isOpen of [false, false, true, true]) {
      breaker = afterAttempt(breaker, 'fails', NOW, 0.5);
      assert.equal(breaker.openUntil > 0, isOpen);
    }
    assert.deepEqual(afterAttempt(breaker, 'works', NOW, 0.5), CLOSED);
  });

  test('silence opens no breaker, and closes none', () => {
    assert.equal(afterAttempt(CLOSED, 'silent', NOW, 0.5), CLOSED);
    const open = { failures: 3, openUntil: NOW - 1 };
    assert.ok(afterAttempt(open, 'silent', NOW, 0.5).openUntil > NOW);
  });

  test('what an outcome says of its destination', () => {
    const message = { scope: 'message' } as const;
    const destination = { scope: 'destination' } as const;
    assert.equal(signOf({ kind: 'confirmed', ...message }), 'works');
    assert.equal(signOf({ kind: 'rejected', ...message }), 'works');
    assert.equal(signOf({ kind: 'deferred', ...message }), 'works');
    assert.equal(signOf({ kind: 'deferred', ...message, timedOut: true }), 'silent');
    assert.equal(signOf({ kind: 'inDoubt', ...message }), 'silent');
    assert.equal(signOf({ kind: 'deferred', ...destination }), 'fails');
    assert.equal(signOf({ kind: 'deferred', ...destination, needsPerson: true }), 'refuses');
    assert.equal(signOf({ kind: 'deferred', ...destination, needsPerson: true, gone: true }), 'gone');
  });

  test('a destination that refuses us is asked again slowly, one that is gone only when a person says so', () => {
    let breaker = CLOSED;
    for (let failures = 1; failures <= 12; failures++) breaker = afterAttempt(breaker, 'refuses', NOW, 0);
    assert.ok(breaker.openUntil >= NOW + 3 * HOUR && breaker.openUntil <= NOW + 6 * HOUR);
    assert.equal(breaker.needsPerson, true);
    const gone = afterAttempt(CLOSED, 'gone', NOW, 0);
    assert.ok(gone.openUntil > NOW + 24 * HOUR);
    assert.equal(retriedNow(gone, NOW).openUntil, NOW);
    const down = { failures: 5, openUntil: NOW + 1 };
    assert.equal(retriedNow(down, NOW), down, 'what is only down keeps its pause');
  });

  test('a message is never given up because the destination refuses us', () => {
    const record = { attempt: 3, since: 0, giveUpAfter: HOUR, backoff: { base: 1, cap: 1 } };
    assert.equal(afterDelivery({ kind: 'deferred' }, record, NOW, 0).next, 'giveUp');
    assert.equal(afterDelivery({ kind: 'deferred', needsPerson: true }, record, NOW, 0).next, 'retry');
  });
});
