import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { fingerprintOf, isWeak } from '../../src/mail/fingerprint.ts';
import { newEntry } from '../../src/sync/entry.ts';
import type { Entry } from '../../src/sync/entry.ts';
import { matchGroup } from '../../src/sync/identity.ts';
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
