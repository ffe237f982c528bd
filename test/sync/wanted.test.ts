import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { compileRouting } from '../../src/config/rule.ts';
import { newEntry } from '../../src/sync/entry.ts';
import type { DeliveryRecord, Entry } from '../../src/sync/entry.ts';
import { redirectsOf, verdictOf, wantedBy } from '../../src/sync/wanted.ts';
import type { Wants } from '../../src/sync/wanted.ts';

function record(state: DeliveryRecord['state'], attempt = 1): DeliveryRecord {
  return { state, attempt, at: 1, next: 0, since: 1, inDoubt: 0, said: '', recipients: {} };
}

function entry(deliveries: Record<string, DeliveryRecord>): Entry {
  return { ...newEntry('u1', 10, 1), deliveries };
}

suite('what the deliveries of a message come to', () => {
  test('an optional destination that is paused is not waited for, unless it is at it', () => {
    const wants: Wants = { deliverTo: ['opt', 'b'], optional: ['opt'] };
    const verdict = (deliveries: Record<string, DeliveryRecord>): string =>
      verdictOf(entry(deliveries), wants, ['opt']);
    assert.equal(verdict({ b: record('confirmed') }), 'confirmed');
    assert.equal(verdict({ b: record('confirmed'), opt: record('deferred', 0) }), 'confirmed');
    assert.equal(verdict({ b: record('confirmed'), opt: record('started') }), 'open');
    assert.equal(verdict({ b: record('deferred') }), 'open');
    assert.equal(verdict({}), 'open', 'nobody has it');
    assert.equal(verdictOf(entry({ opt: record('confirmed') }), wants, ['b']), 'open', 'b must have it');
  });

  test('what stands in for an optional destination is optional too, unless something else needs it', () => {
    const optional = (...rules: Parameters<typeof compileRouting>[0]): readonly string[] =>
      compileRouting(rules).optional;
    const opt = { to: 'opt', optional: true, fallback: 'f' };
    assert.deepEqual(optional(opt, 'b'), ['opt', 'f']);
    assert.deepEqual(optional(opt, 'f'), ['opt']);
    assert.deepEqual(optional(opt, { to: 'b', optional: false, fallback: 'f' }), ['opt']);
  });

  const cases: [string, Wants, Record<string, DeliveryRecord>, string][] = [
    ['all confirmed', { deliverTo: ['a', 'b'] }, { a: record('confirmed'), b: record('confirmed') }, 'confirmed'],
    ['one waits', { deliverTo: ['a', 'b'] }, { a: record('confirmed'), b: record('deferred') }, 'open'],
    ['one was never tried', { deliverTo: ['a', 'b'] }, { a: record('confirmed') }, 'open'],
    ['one is under way', { deliverTo: ['a'] }, { a: record('started') }, 'open'],
    ['one rejected', { deliverTo: ['a', 'b'] }, { a: record('confirmed'), b: record('rejected') }, 'quarantined'],
    ['one rejected, one waits', { deliverTo: ['a', 'b'] }, { a: record('deferred'), b: record('rejected') }, 'open'],
    ['sent elsewhere, which waits', { deliverTo: ['a'] }, { a: record('waived'), x: record('deferred', 0) }, 'open'],
    [
      'sent elsewhere, which has it',
      { deliverTo: ['a'] },
      { a: record('waived'), x: record('confirmed') },
      'confirmed',
    ],
    [
      'sent elsewhere, which rejects',
      { deliverTo: ['a'] },
      { a: record('waived'), x: record('rejected') },
      'quarantined',
    ],
    ['waived, and nobody has it', { deliverTo: ['a'] }, { a: record('waived') }, 'quarantined'],
    [
      'optional waits',
      { deliverTo: ['a', 'b'], optional: ['b'] },
      { a: record('confirmed'), b: record('deferred') },
      'confirmed',
    ],
    [
      'optional rejected',
      { deliverTo: ['a', 'b'], optional: ['b'] },
      { a: record('confirmed'), b: record('rejected') },
      'confirmed',
    ],
    [
      'optional is under way',
      { deliverTo: ['a', 'b'], optional: ['b'] },
      { a: record('confirmed'), b: record('started') },
      'open',
    ],
    [
      'optional was never tried',
      { deliverTo: ['a', 'b'], optional: ['b'] },
      { a: record('confirmed'), b: record('deferred', 0) },
      'open',
    ],
    [
      'all optional, all failed: nobody has it',
      { deliverTo: ['a', 'b'], optional: ['a', 'b'] },
      { a: record('deferred'), b: record('rejected') },
      'open',
    ],
    [
      'all optional, one has it',
      { deliverTo: ['a', 'b'], optional: ['a', 'b'] },
      { a: record('deferred'), b: record('confirmed') },
      'confirmed',
    ],
    ['rejected, the fallback is due', { deliverTo: ['a'], fallback: { a: 'f' } }, { a: record('rejected') }, 'open'],
    [
      'rejected, the fallback has it',
      { deliverTo: ['a'], fallback: { a: 'f' } },
      { a: record('rejected'), f: record('confirmed') },
      'confirmed',
    ],
    [
      'rejected, and by the fallback too',
      { deliverTo: ['a'], fallback: { a: 'f' } },
      { a: record('rejected'), f: record('rejected') },
      'quarantined',
    ],
    [
      'routed: only what the rules chose',
      { deliverTo: ['a', 'b'], routed: true },
      { a: record('confirmed') },
      'confirmed',
    ],
    ['routed: not retrieved yet', { deliverTo: ['a', 'b'], routed: true }, {}, 'open'],
    ['no destination at all', { deliverTo: [] }, {}, 'open'],
  ];
  for (const [name, wants, deliveries, verdict] of cases) {
    test(name, () => assert.equal(verdictOf(entry(deliveries), wants), verdict));
  }

  test('fallbacks in a circle end', () => {
    const wants: Wants = { deliverTo: ['a'], fallback: { a: 'b', b: 'a' } };
    assert.deepEqual(wantedBy(entry({ a: record('rejected'), b: record('rejected') }), wants), ['a', 'b']);
    assert.equal(verdictOf(entry({ a: record('rejected'), b: record('rejected') }), wants), 'quarantined');
  });

  test('confirmed means that somebody has it, and every required destination or a fallback of its', () => {
    const states = fc.constantFrom<DeliveryRecord['state'] | 'none'>(
      'started',
      'confirmed',
      'deferred',
      'rejected',
      'none',
    );
    fc.assert(
      fc.property(states, states, states, fc.boolean(), fc.boolean(), (a, b, f, bOptional, hasFallback) => {
        const deliveries = Object.fromEntries(
          Object.entries({ a, b, f }).flatMap(([name, state]) => (state === 'none' ? [] : [[name, record(state)]])),
        ) as Record<string, DeliveryRecord>;
        const wants: Wants = {
          deliverTo: ['a', 'b'],
          optional: bOptional ? ['b'] : [],
          fallback: hasFallback ? { a: 'f' } : {},
        };
        if (verdictOf(entry(deliveries), wants) !== 'confirmed') return;
        const aIsServed = a === 'confirmed' || (hasFallback && a === 'rejected' && f === 'confirmed');
        assert.ok(aIsServed);
        assert.ok(b === 'confirmed' || (bOptional && (b === 'deferred' || b === 'rejected')));
      }),
    );
  });

  test('where a person sent messages beyond the account is known', () => {
    const sent = entry({ a: record('waived'), x: record('deferred') });
    assert.deepEqual(redirectsOf([sent, sent, entry({ a: record('rejected') })]), ['x']);
  });

  test('a fallback is not used before its destination has rejected', () => {
    const wants: Wants = { deliverTo: ['a'], fallback: { a: 'f' } };
    for (const state of ['started', 'deferred', 'confirmed'] as const)
      assert.deepEqual(wantedBy(entry({ a: record(state) }), wants), ['a']);
    assert.deepEqual(wantedBy(entry({}), wants), ['a']);
    assert.deepEqual(wantedBy(entry({ a: record('rejected') }), wants), ['a', 'f']);
    const two: Wants = { deliverTo: ['a', 'b'], fallback: { a: 'f', b: 'g' } };
    const other = entry({ a: record('deferred'), b: record('rejected') });
    assert.deepEqual(wantedBy(other, two), ['a', 'b', 'g'], 'another has');
  });
});
