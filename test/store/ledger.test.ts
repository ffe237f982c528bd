// The ledger on a real Redis: durable, fenced, and exact about what lies where.

import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Redis } from 'ioredis';
import * as fc from 'fast-check';
import { decodeGroup, encodeGroup } from '../../src/store/codec.ts';
import { accountKeys } from '../../src/store/keys.ts';
import { Lease } from '../../src/store/lease.ts';
import { Ledger, LedgerFailure, readEntries, readStates } from '../../src/store/ledger.ts';
import { ledgerConnection } from '../../src/store/redis.ts';
import { newEntry } from '../../src/sync/entry.ts';
import type { Entry } from '../../src/sync/entry.ts';
import type { Row } from '../../src/sync/identity.ts';
import type { Policy } from '../../src/sync/plan.ts';
import { startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';

const KEEP: Policy = {
  deliverTo: ['a'],
  retention: 'keep',
  firstPoll: 'deliver',
  maxMessageSize: 1e9,
  maxMessagesPerPoll: 1e9,
};
let server: RunningRedis;
let redis: Redis;
let serial = 0;

before(async () => {
  server = await startRedis();
  redis = ledgerConnection({ kind: 'socket', path: server.socket }, 'test', () => undefined);
  await redis.connect();
});

after(async () => {
  redis.disconnect();
  await server.stop();
});

async function opened(): Promise<{ account: string; lease: Lease; ledger: Ledger }> {
  serial += 1;
  const account = `account-${serial}`;
  const lease = await Lease.acquire(redis, account);
  assert.ok(lease);
  return { account, lease, ledger: await Ledger.open(redis, lease) };
}

function entry(uniqueId: string, changes: Partial<Entry> = {}): Entry {
  return { ...newEntry(uniqueId, 100, 1_800_000_000_000), fingerprint: 'f', sha: 's', ...changes };
}

async function all(account: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { uniqueId, state, copy } of readEntries(redis, account)) found.push(`${uniqueId} ${state} ${copy}`);
  return found.sort();
}

suite('the ledger', () => {
  test('what was put is there for the next holder', async () => {
    const { account, lease, ledger } = await opened();
    await ledger.put(undefined, entry('u1'));
    await ledger.put(undefined, entry('u2', { state: 'kept' }));
    await ledger.saveState({ polledSince: 5 });
    await lease.release();
    const next = await Lease.acquire(redis, account);
    assert.ok(next);
    const again = await Ledger.open(redis, next);
    assert.deepEqual(
      [...again.openEntries()].map(({ uniqueId }) => uniqueId),
      ['u1'],
    );
    assert.equal(again.state.polledSince, 5);
    assert.deepEqual(await all(account), ['u1 open 0', 'u2 kept 0']);
    assert.equal((await readStates(redis, [account]))[0]?.polledSince, 5);
    await next.release();
  });

  test('what was staged is written with the state, at the latest', async () => {
    const { account, ledger } = await opened();
    ledger.stage(undefined, entry('u1'));
    assert.equal(ledger.group('u1').length, 1);
    assert.deepEqual(await all(account), [], 'not yet');
    await ledger.saveState({});
    assert.equal((await all(account)).length, 1);
  });

  test('a group moves between what is open and what is settled, and never lies in both', async () => {
    const { account, lease, ledger } = await opened();
    const keys = accountKeys(account);
    const where = async (): Promise<[number, number]> => [await redis.hlen(keys.open), await redis.hlen(keys.settled)];
    const open = entry('u');
    await ledger.put(undefined, open);
    assert.deepEqual(await where(), [1, 0]);
    const kept = { ...open, state: 'kept' as const };
    await ledger.put(open, kept);
    assert.deepEqual(await where(), [0, 1]);
    const absent = { ...kept, absences: 1, absentSince: 7 };
    await ledger.put(kept, absent);
    assert.deepEqual(await where(), [1, 0]);
    await ledger.put(absent, kept);
    const twin = entry('u', { copy: 1 });
    await ledger.put(undefined, twin);
    assert.deepEqual(await where(), [1, 0]);
    await ledger.forget(twin);
    assert.deepEqual(await where(), [0, 1]);
    await ledger.forget(kept);
    assert.deepEqual(await where(), [0, 0]);
    await lease.release();
  });

  test('many writes at one time are one round trip, in order', async () => {
    const { account, lease, ledger } = await opened();
    const scripts = async (): Promise<number> =>
      Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
    const before = await scripts();
    const writes = Array.from({ length: 500 }, async (_, index) => await ledger.put(undefined, entry(`u${index}`)));
    await Promise.all(writes);
    assert.ok((await scripts()) - before <= 2);
    assert.equal((await all(account)).length, 500);
    await lease.release();
  });

  test('so many at one time that no call could take them as arguments', async () => {
    const { account, lease, ledger } = await opened();
    const count = 200_000;
    const writes: Promise<void>[] = [];
    for (let number = 0; number < count; number += 1) {
      const one = entry(`u${String(number)}`, { state: 'kept' });
      ledger.record({ event: 'seen', uniqueId: one.uniqueId, size: 1, at: 1 });
      writes.push(ledger.put(undefined, one));
    }
    await Promise.all(writes);
    assert.equal(await redis.hlen(accountKeys(account).settled), count);
    assert((await redis.xlen(accountKeys(account).trail)) <= 20_000, 'and the trail is capped');
    await redis.del(accountKeys(account).settled, accountKeys(account).trail);
    await lease.release();
  });

  test('who lost the lease writes nothing', async () => {
    const { account, lease, ledger } = await opened();
    await ledger.put(undefined, entry('u1'));
    await redis.del(accountKeys(account).lease); // it ran out
    const thief = await Lease.acquire(redis, account);
    assert.ok(thief);
    await assert.rejects(
      ledger.put(undefined, entry('u2')),
      (error: unknown) => error instanceof LedgerFailure && error.code === 'ledger.fenced',
    );
    await assert.rejects(ledger.saveState({ lastPoll: 1 }), LedgerFailure);
    assert.deepEqual(await all(account), ['u1 open 0']);
    assert.equal(await lease.confirm(), false);
    await lease.release();
    assert.ok(await redis.exists(accountKeys(account).lease), 'the thief keeps the lease');
    await thief.release();
  });

  test('an emptied Redis takes no writes of before', async () => {
    const { account, lease, ledger } = await opened();
    await redis.flushall();
    await assert.rejects(ledger.put(undefined, entry('u1')), LedgerFailure);
    assert.deepEqual(await all(account), []);
    await lease.release();
  });

  test('a listing beside the ledger: settled mail is counted, the rest is shown, absent entries too', async () => {
    const { lease, ledger } = await opened();
    await Promise.all(
      Array.from(
        { length: 5000 },
        async (_, index) => await ledger.put(undefined, entry(`k${index}`, { state: 'kept' })),
      ),
    );
    await ledger.put(undefined, entry('open'));
    const rows: Row[] = Array.from({ length: 4998 }, (_, index) => ({
      messageNumber: index + 1,
      uniqueId: `k${index}`,
      size: 100,
    }));
    rows.push({ messageNumber: 4999, uniqueId: 'new', size: 1 }, { messageNumber: 5000, uniqueId: 'open', size: 100 });
    rows[7] = { messageNumber: 8, uniqueId: 'k7', size: 101 };
    const fresh = await Ledger.open(redis, lease);
    const compared = await fresh.compare(rows, KEEP, 1_800_000_000_001);
    assert.equal(compared.quiet, 4997);
    assert.deepEqual(compared.rows.map(({ uniqueId }) => uniqueId).sort(), ['k7', 'new', 'open']);
    assert.deepEqual([...compared.entries.keys()].sort(), ['k4998', 'k4999', 'k7', 'open']);
    await lease.release();
  });

  test('twins in a listing are never quiet', async () => {
    const { lease, ledger } = await opened();
    await ledger.put(undefined, entry('t', { state: 'kept' }));
    const rows: Row[] = [1, 2].map((messageNumber) => ({ messageNumber, uniqueId: 't', size: 100 }));
    const compared = await ledger.compare(rows, KEEP, 1);
    assert.deepEqual([compared.quiet, compared.rows.length, compared.entries.get('t')?.length], [0, 2, 1]);
    await lease.release();
  });

  test('what was confirmed survives an outage of Redis that passes', async () => {
    await using own = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    const connection = ledgerConnection({ kind: 'socket', path: own.socket }, 'test', () => undefined);
    await connection.connect();
    try {
      const lease = await Lease.acquire(connection, 'outage');
      assert.ok(lease);
      const ledger = await Ledger.open(connection, lease);
      await ledger.put(undefined, entry('u1'));
      await own.kill9();
      const write = ledger.put(undefined, entry('u2'));
      await own.restart();
      await write;
      const found: string[] = [];
      for await (const each of readEntries(connection, 'outage')) found.push(each.uniqueId);
      assert.deepEqual(found.sort(), ['u1', 'u2']);
      await lease.release();
    } finally {
      connection.disconnect();
    }
  });
});

suite('entries as they lie in Redis', () => {
  const text = fc.string({ unit: 'binary', maxLength: 20 });
  const delivery = fc.record({
    state: fc.constantFrom('started' as const, 'confirmed' as const, 'deferred' as const, 'rejected' as const),
    attempt: fc.nat(),
    at: fc.nat(),
    next: fc.nat(),
    since: fc.nat(),
    inDoubt: fc.nat(),
    said: text,
    recipients: fc.dictionary(
      fc.emailAddress(),
      fc.record({ kind: fc.constantFrom('confirmed' as const, 'rejected' as const), said: text }),
      { maxKeys: 2 },
    ),
  });
  const arbitrary = fc.record({
    uniqueId: fc.constant('u'),
    fingerprint: text,
    copy: fc.nat(),
    sha: text,
    size: fc.integer({ min: -1 }),
    firstSeen: fc.nat().map((seconds) => seconds * 1000),
    state: fc.constantFrom(
      'open' as const,
      'confirmed' as const,
      'deleting' as const,
      'deleted' as const,
      'quarantined' as const,
      'discarded' as const,
    ),
    deliveries: fc.dictionary(
      fc.string({ minLength: 1, maxLength: 5 }).filter((name) => name !== '__proto__'),
      delivery,
      { maxKeys: 3 },
    ),
    reason: text,
    retrieval: fc.record({ failures: fc.nat(), next: fc.nat() }),
    absences: fc.nat(),
    absentSince: fc.nat(),
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(fc.array(arbitrary, { minLength: 1, maxLength: 3 }), (entries) => {
        const back = decodeGroup('u', encodeGroup(entries));
        assert.deepEqual(JSON.parse(JSON.stringify(back)), JSON.parse(JSON.stringify(entries)));
      }),
    );
  });

  test('that need nothing any more come back as they were, also as versions before this one wrote them', () => {
    const settled = fc.record({
      uniqueId: fc.constant('u'),
      fingerprint: fc.oneof(fc.base64String(), text),
      copy: fc.nat(),
      sha: fc.oneof(fc.base64String(), text),
      size: fc.oneof(fc.integer({ min: -1 }), fc.maxSafeNat()),
      firstSeen: fc.nat().map((seconds) => seconds * 1000),
      state: fc.constantFrom('kept' as const, 'skipped' as const),
    });
    const nothing = {
      deliveries: {},
      reason: '',
      retrieval: { failures: 0, next: 0 },
      absences: 0,
      absentSince: 0,
    };
    fc.assert(
      fc.property(settled, (known) => {
        const expected = { ...known, ...nothing };
        assert.deepEqual(decodeGroup('u', encodeGroup([expected])), [expected]);
        const { fingerprint, copy, sha, size, firstSeen } = known;
        const long = [known.state === 'kept' ? 'k' : 's', fingerprint, copy, sha, size, firstSeen / 1000];
        assert.deepEqual(decodeGroup('u', JSON.stringify([1, long])), [expected]);
      }),
    );
  });

  test('what cannot be read never looks empty', () => {
    const broken = [
      '',
      '[]',
      '[2,["o"]]',
      '{}',
      '[1,["?","f",0,"s",1,1]]',
      'rubbish',
      'kf,s,0,1',
      '?f,s,0,1,1',
      'of,s,0,1,1',
      'kf,s,0,1,-',
    ];
    for (const value of broken) assert.throws(() => decodeGroup('u', value));
  });

  test('a kept message takes few octets', () => {
    const kept = entry('u', { state: 'kept', fingerprint: 'x'.repeat(22), sha: 'y'.repeat(22) });
    // What Redis takes for small (`hash-max-listpack-value`) by default.
    assert.ok(encodeGroup([kept]).length <= 64);
    assert.ok(encodeGroup([entry('u', { state: 'skipped', fingerprint: '', sha: '' })]).length <= 16);
  });
});
