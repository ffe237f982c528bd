import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { fingerprintOf, isWeak } from '../../src/mail/fingerprint.ts';
import * as fc from 'fast-check';
import { entryKey, mayDelete, newEntry } from '../../src/sync/entry.ts';
import type { Entry } from '../../src/sync/entry.ts';
import { Assignments, matchGroup } from '../../src/sync/identity.ts';
import type { Evidence, Row } from '../../src/sync/identity.ts';

const A = 'AAAA';
const B = 'BBBB';
const WEAK = '~AAA';

function row(messageNumber: number, size = 100): Row {
  return { messageNumber, uniqueId: 'u', size };
}

function entry(changes: Partial<Entry>): Entry {
  return { ...newEntry('u', 100, 1), state: 'kept', fingerprint: A, sha: 'sha-a', ...changes };
}

/** `new`, `identify`, `compare`, or the index of the entry it is. */
function verdicts(
  rows: readonly Row[],
  entries: readonly Entry[],
  evidence: Record<number, Evidence> = {},
): (string | number)[] {
  const found = new Map(Object.entries(evidence).map(([messageNumber, seen]) => [Number(messageNumber), seen]));
  return matchGroup(rows, entries, found).map((match) =>
    match.kind === 'known' ? entries.indexOf(match.entry) : match.kind,
  );
}

suite('which row is which entry', () => {
  test('a message that was away and has another size: only the octets can tell', () => {
    const away = entry({ state: 'open', absences: 1 });
    assert.deepEqual(verdicts([row(1)], [away], { 1: { fingerprint: A } }), [0]);
    assert.deepEqual(verdicts([row(1, 90)], [away], { 1: { fingerprint: A } }), ['compare']);
  });
  test('an unknown unique-id is new', () => assert.deepEqual(verdicts([row(1)], []), ['new']));
  test('twins that nobody knows are new', () => assert.deepEqual(verdicts([row(1), row(2)], []), ['new', 'new']));
  test('one row, one entry, same size: known', () => assert.deepEqual(verdicts([row(1)], [entry({})]), [0]));
  test('another size: asked for', () => assert.deepEqual(verdicts([row(1, 101)], [entry({})]), ['identify']));
  test('another size, same fingerprint: known', () => {
    assert.deepEqual(verdicts([row(1, 101)], [entry({})], { 1: { fingerprint: A } }), [0]);
  });
  test('another size, another fingerprint: the unique-id is used again', () => {
    assert.deepEqual(verdicts([row(1, 101)], [entry({})], { 1: { fingerprint: B } }), ['new']);
  });
  test('a size that the server does not tell is no doubt', () =>
    assert.deepEqual(verdicts([row(1, -1)], [entry({})]), [0]));
  for (const state of ['deleting', 'deleted'] as const) {
    test(`${state} and there: asked for`, () => assert.deepEqual(verdicts([row(1)], [entry({ state })]), ['identify']));
    test(`${state} and there, another message`, () => {
      assert.deepEqual(verdicts([row(1)], [entry({ state })], { 1: { fingerprint: B } }), ['new']);
    });
  }
  test('deleting and there, by fingerprint: the delete did not count', () => {
    assert.deepEqual(verdicts([row(1)], [entry({ state: 'deleting' })], { 1: { fingerprint: A } }), [0]);
  });
  test('deleted, proved, and there: only the octets can tell', () => {
    const deleted = entry({ state: 'deleted' });
    assert.deepEqual(verdicts([row(1)], [deleted], { 1: { fingerprint: A } }), ['compare']);
    assert.deepEqual(verdicts([row(1)], [deleted], { 1: { fingerprint: A, sha: 'sha-a' } }), [0]);
    assert.deepEqual(verdicts([row(1)], [deleted], { 1: { fingerprint: A, sha: 'other' } }), ['new']);
  });
  test('deleted, seen to be gone, and back: a new copy, however alike', () => {
    const deleted = entry({ state: 'deleted', absences: 1 });
    assert.deepEqual(verdicts([row(1)], [deleted], { 1: { fingerprint: A, sha: 'sha-a' } }), ['new']);
  });
  test('different messages under one unique-id are told apart by fingerprint', () => {
    const entries = [entry({}), entry({ fingerprint: B, sha: 'sha-b' })];
    assert.deepEqual(verdicts([row(1), row(2)], entries), ['identify', 'identify']);
    assert.deepEqual(verdicts([row(1), row(2)], entries, { 1: { fingerprint: B }, 2: { fingerprint: A } }), [1, 0]);
  });
  test('one known and one new twin', () => {
    assert.deepEqual(verdicts([row(1), row(2)], [entry({})], { 1: { fingerprint: B }, 2: { fingerprint: A } }), [
      'new',
      0,
    ]);
  });
  test('a further copy with the same header: only the octets can tell', () => {
    const evidence = { 1: { fingerprint: A }, 2: { fingerprint: A } };
    assert.deepEqual(verdicts([row(1), row(2)], [entry({})], evidence), ['compare', 'compare']);
    assert.deepEqual(verdicts([row(1, 90), row(2)], [entry({})], evidence), ['new', 0], 'or their sizes');
    const changed = [row(1, 90), row(2, 80)];
    assert.deepEqual(verdicts(changed, [entry({})], evidence), ['compare', 'compare']);
    const seen = { 1: { fingerprint: A, sha: 'other' }, 2: { fingerprint: A, sha: 'sha-a' } };
    assert.deepEqual(verdicts([row(1), row(2)], [entry({})], seen), ['new', 0]);
  });
  test('two copies, one delivered and one not: never deleted on a guess', () => {
    const entries = [entry({ state: 'confirmed' }), entry({ copy: 1, state: 'open', sha: 'sha-b' })];
    assert.deepEqual(verdicts([row(1), row(2)], entries, { 1: { fingerprint: A }, 2: { fingerprint: A } }), [
      'compare',
      'compare',
    ]);
  });
  test('a weak fingerprint does not prove that a pending delete may be repeated', () => {
    const pending = entry({ state: 'deleting', fingerprint: WEAK });
    assert.deepEqual(verdicts([row(1)], [pending], { 1: { fingerprint: WEAK } }), ['compare']);
    assert.deepEqual(verdicts([row(1)], [pending], { 1: { fingerprint: WEAK, sha: 'other' } }), ['new']);
  });
  test('octets that were seen outweigh everything', () => {
    // One row of twins, asked of the entries that nobody else is.
    const other = { 1: { fingerprint: A, sha: 'other' } };
    for (const size of [100, 101]) {
      assert.deepEqual(verdicts([row(1, size)], [entry({})], other), ['new']);
      assert.deepEqual(verdicts([row(1, size)], [entry({ state: 'deleting' })], other), ['new']);
      assert.deepEqual(verdicts([row(1, size)], [entry({ sha: '', state: 'open' })], other), [0]);
    }
    assert.deepEqual(verdicts([row(1)], [entry({ sha: '', state: 'deleting' })], other), ['new']);
  });
  test('a pending delete that a listing missed: only the octets can tell', () => {
    const pending = entry({ state: 'deleting', absences: 1 });
    assert.deepEqual(verdicts([row(1)], [pending], { 1: { fingerprint: A } }), ['compare']);
    assert.deepEqual(verdicts([row(1)], [pending], { 1: { fingerprint: A, sha: 'sha-a' } }), [0]);
    assert.deepEqual(verdicts([row(1)], [pending], { 1: { fingerprint: A, sha: 'other' } }), ['new']);
  });
  test('a pending delete and another size: only the octets can tell', () => {
    assert.deepEqual(verdicts([row(1, 90)], [entry({ state: 'deleting' })], { 1: { fingerprint: A } }), ['compare']);
  });
  test('two copies, one deleted: what is there is the other, without a look at its octets at each poll', () => {
    const entries = [entry({ state: 'deleted' }), entry({ copy: 1, state: 'quarantined', sha: 'sha-b' })];
    assert.deepEqual(verdicts([row(1)], entries, { 1: { fingerprint: A } }), [1]);
    assert.deepEqual(verdicts([row(1), row(2)], entries, { 1: { fingerprint: A }, 2: { fingerprint: A } }), [
      'compare',
      'compare',
    ]);
  });
  test('two copies, both kept, one gone: the other is one of them', () => {
    const entries = [entry({}), entry({ copy: 1, sha: 'sha-b', size: 200 })];
    assert.deepEqual(verdicts([row(1, 200)], entries, { 1: { fingerprint: A } }), [1]);
    assert.deepEqual(verdicts([row(1, 300)], entries, { 1: { fingerprint: A } }), ['compare']);
  });
  test('two copies of different size that wait: told apart by size, where no delete hangs on it', () => {
    const evidence = { 1: { fingerprint: A }, 2: { fingerprint: A } };
    const open = entry({ state: 'open' });
    const rows = [row(1, 200), row(2)];
    assert.deepEqual(verdicts(rows, [open, entry({ copy: 1, state: 'quarantined', size: 200 })], evidence), [1, 0]);
    const done = entry({ copy: 1, state: 'confirmed', size: 200 });
    assert.deepEqual(verdicts(rows, [open, done], evidence), [1, 0], 'each has its row');
    assert.deepEqual(verdicts([row(1, 200)], [open, done], { 1: { fingerprint: A } }), ['compare']);
    assert.deepEqual(verdicts([row(1, 200), row(2, 90)], [open, done], evidence), ['compare', 'compare']);
  });
  test('discarded without having been seen: looked at before it is deleted', () => {
    const unseen = entry({ state: 'discarded', fingerprint: '', sha: '' });
    assert.deepEqual(verdicts([row(1)], [unseen]), ['identify']);
    assert.deepEqual(verdicts([row(1)], [unseen], { 1: { fingerprint: B } }), [0]);
    assert.deepEqual(verdicts([row(1, 101)], [unseen], { 1: { fingerprint: B } }), ['new']);
    assert.deepEqual(verdicts([row(1)], [{ ...unseen, absences: 1 }], { 1: { fingerprint: B } }), ['new']);
  });
  test('a unique-id that was skipped, went away, and comes back with another message', () => {
    const skipped = entry({ state: 'skipped', fingerprint: '', sha: '', absences: 1 });
    assert.deepEqual(verdicts([row(1, 101)], [skipped], { 1: { fingerprint: B } }), ['new']);
    assert.deepEqual(verdicts([row(1)], [skipped], { 1: { fingerprint: B } }), [0]);
  });
  test('a skipped message and a new twin: told apart by size', () => {
    const skipped = entry({ state: 'skipped', fingerprint: '', sha: '' });
    const evidence = { 1: { fingerprint: A }, 2: { fingerprint: B } };
    assert.deepEqual(verdicts([row(1, 7), row(2)], [skipped], evidence), ['new', 0]);
    assert.deepEqual(verdicts([row(1, 7), row(2, 8)], [skipped], evidence), ['new', 'new']);
  });
  test('no entry is two rows, whatever is known of them', () => {
    const state = fc.constantFrom<Entry['state']>(
      'open',
      'confirmed',
      'kept',
      'deleting',
      'deleted',
      'quarantined',
      'discarded',
      'skipped',
    );
    const mark = fc.constantFrom('', A, B, WEAK);
    const some = fc.record({
      state,
      fingerprint: mark,
      sha: fc.constantFrom('', 's', 't'),
      size: fc.constantFrom(-1, 1, 2),
      absences: fc.nat(1),
    });
    const seen = fc.record({
      fingerprint: mark.filter((each) => each !== ''),
      sha: fc.constantFrom(undefined, 's', 't'),
    });
    fc.assert(
      fc.property(
        fc.array(some, { maxLength: 4 }),
        fc.array(fc.tuple(fc.constantFrom(-1, 1, 2), fc.option(seen)), { maxLength: 4 }),
        (parts, listed) => {
          const entries = parts.map((part, copy) => entry({ ...part, copy }));
          const evidence: Record<number, Evidence> = {};
          listed.forEach(([, each], index) => {
            if (each)
              evidence[index + 1] =
                each.sha === undefined
                  ? { fingerprint: each.fingerprint }
                  : { fingerprint: each.fingerprint, sha: each.sha };
          });
          const found = verdicts(
            listed.map(([size], index) => row(index + 1, size)),
            entries,
            evidence,
          );
          const known = found.filter((each) => typeof each === 'number');
          assert.equal(new Set(known).size, known.length);
          assert.ok(!known.includes(-1));
          found.forEach((each, index) => {
            const mine = typeof each === 'number' ? entries[each] : undefined;
            const about = evidence[index + 1];
            // Whoever was looked at is never taken for a message with another header, or deleted for other octets.
            if (mine && about && mine.fingerprint !== '') assert.equal(about.fingerprint, mine.fingerprint);
            if (mine && about?.sha !== undefined && mine.fingerprint !== '' && mayDelete(mine))
              assert.equal(about.sha, mine.sha);
          });
        },
      ),
      { numRuns: 2000 },
    );
  });
  test('an entry without a fingerprint (skipped, or never retrieved) is known by its unique-id', () => {
    assert.deepEqual(
      verdicts([row(1, 5)], [entry({ state: 'skipped', fingerprint: '', sha: '' })], { 1: { fingerprint: A } }),
      [0],
    );
  });
});

suite('fingerprints', () => {
  const of = (text: string): string => fingerprintOf(Buffer.from(text.replaceAll('\n', '\r\n')));
  const base = 'Received: by a\nMessage-ID: <1@x>\nSubject: s\nStatus: O\n\n';
  test('fields that servers rewrite do not count', () => {
    assert.equal(of(base), of('X-UIDL: 99\nReceived: by a\nMessage-ID: <1@x>\nSubject: s\nStatus: RO\nX-UID: 4\n\n'));
  });
  test('the Received chain, the subject and folding count as they should', () => {
    assert.notEqual(of(base), of(base.replace('by a', 'by b')));
    assert.notEqual(of(base), of(base.replace('Subject: s', 'Subject: t')));
    assert.equal(of('Subject: a b\n\n'), of('Subject: a\n b\n\n'));
  });
  test('weak without Message-ID and Received', () => {
    assert.ok(isWeak(of('Subject: s\nFrom: a@b\n\n')));
    assert.ok(!isWeak(of(base)));
    assert.ok(isWeak(of('\n')));
  });
});

suite('which entry is which message of a session', () => {
  test('is known of each, however many share a unique-id', () => {
    const names = fc.record({
      uniqueId: fc.constantFrom('u', 'v'),
      fingerprint: fc.constantFrom('', A, B),
      copy: fc.nat(2),
    });
    fc.assert(
      fc.property(fc.array(names), (identities) => {
        const assigned = new Assignments();
        const expected = new Map<string, number>();
        for (const [messageNumber, identity] of identities.entries()) {
          assigned.set(identity, messageNumber);
          expected.set(entryKey(identity), messageNumber);
        }
        for (const uniqueId of ['u', 'v', 'w'])
          for (const fingerprint of ['', A, B])
            for (const copy of [0, 1, 2]) {
              const identity = { uniqueId, fingerprint, copy };
              assert.equal(assigned.holderOf(identity), expected.get(entryKey(identity)));
            }
      }),
    );
  });
});
