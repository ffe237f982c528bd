// The ledger where Redis fails it, where deliveries of an earlier session write beside the next poll, and where writes
// come twice, late, or in great numbers.

import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { accountKeys } from '../../src/store/keys.ts';
import { Lease } from '../../src/store/lease.ts';
import { Ledger, LedgerFailure, readEntries } from '../../src/store/ledger.ts';
import { ledgerConnection } from '../../src/store/redis.ts';
import { runScript, WRITE } from '../../src/store/scripts.ts';
import { newEntry } from '../../src/sync/entry.ts';
import type { Entry } from '../../src/sync/entry.ts';
import type { Row } from '../../src/sync/identity.ts';
import type { Policy } from '../../src/sync/plan.ts';
import { startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';

const NOW = 1_800_000_000_000;
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
  redis = await connected(server);
});

after(async () => {
  redis.disconnect();
  await server.stop();
});

async function connected({ socket }: RunningRedis): Promise<Redis> {
  const connection = ledgerConnection({ kind: 'socket', path: socket }, 'test', () => undefined);
  await connection.connect();
  return connection;
}

async function opened(on = redis, giveUp?: AbortSignal): Promise<{ account: string; lease: Lease; ledger: Ledger }> {
  serial += 1;
  const account = `account-${serial}`;
  const lease = await Lease.acquire(on, account);
  assert.ok(lease);
  return { account, lease, ledger: await Ledger.open(on, lease, giveUp) };
}

function entry(uniqueId: string, changes: Partial<Entry> = {}): Entry {
  return { ...newEntry(uniqueId, 100, NOW), fingerprint: 'f', sha: 's', ...changes };
}

function rowsOf(...uniqueIds: string[]): Row[] {
  return uniqueIds.map((uniqueId, index) => ({ messageNumber: index + 1, uniqueId, size: 100 }));
}

async function stored(account: string, on = redis): Promise<string[]> {
  const found: string[] = [];
  for await (const { uniqueId, state, copy } of readEntries(on, account)) found.push(`${uniqueId} ${state} ${copy}`);
  return found.sort();
}

suite('writes', () => {
  test('a group that settles and changes again before the first write has left lies in one place', async () => {
    const { account, lease, ledger } = await opened();
    const open = entry('u');
    await ledger.put(undefined, open);
    const kept = { ...open, state: 'kept' as const };
    await Promise.all([ledger.put(open, kept), ledger.put(kept, { ...kept, size: 7 })]);
    assert.deepEqual(await stored(account), ['u kept 0']);
    await lease.release();
  });

  test('whatever is put and forgotten, at once or after one another, Redis holds what the ledger holds', async () => {
    const uniqueId = fc.constantFrom('x', 'y', '__proto__');
    const change = fc.record({
      uniqueId,
      copy: fc.nat(1),
      state: fc.constantFrom('open' as const, 'kept' as const, 'skipped' as const, 'deleted' as const, undefined),
      wait: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 12 }), async (changes) => {
        const { account, lease, ledger } = await opened();
        const writes: Promise<void>[] = [];
        const model = new Map<string, string>();
        for (const { uniqueId: name, copy, state, wait } of changes) {
          const wanted = entry(name, { copy });
          const known = ledger.get(wanted);
          const key = `${name} ${copy}`;
          if (state !== undefined) {
            writes.push(ledger.put(known, { ...wanted, state }));
            model.set(key, `${name} ${state} ${copy}`);
          } else if (known) {
            writes.push(ledger.forget(known));
            model.delete(key);
          }
          if (wait) await Promise.all(writes);
        }
        await Promise.all(writes);
        assert.deepEqual(await stored(account), [...model.values()].sort());
        const again = await Ledger.open(redis, lease);
        const { entries } = await again.compare([], KEEP, NOW);
        assert.deepEqual([...entries.values()].flat().length, model.size);
        await lease.release();
      }),
      { numRuns: 60 },
    );
  });

  test('an entry that is added twice is there once', async () => {
    const { account, lease, ledger } = await opened();
    await ledger.put(undefined, entry('u'));
    await ledger.put(undefined, entry('u', { reason: 'again' }));
    assert.deepEqual(await stored(account), ['u open 0']);
    await lease.release();
  });

  test('a write that comes again, late, changes nothing', async () => {
    const { account, lease, ledger } = await opened();
    const { fence, open, settled, state, trail } = accountKeys(account);
    const late = [fence, open, settled, state, trail, lease.token, 1, 10, 1000, '', '', 'u\n', '', 'again\n'];
    await ledger.put(undefined, entry('u'));
    await ledger.put(undefined, entry('v'));
    assert.equal(await runScript(redis, WRITE, late), 0);
    assert.deepEqual(await stored(account), ['u open 0', 'v open 0']);
    assert.equal(await redis.xlen(trail), 0);
    await lease.release();
    const next = await Lease.acquire(redis, account);
    assert.ok(next);
    const heir = await Ledger.open(redis, next);
    await heir.put(undefined, entry('w'));
    assert.equal((await stored(account)).length, 3, 'the next token counts anew');
    await next.release();
  });

  test('more than one script of operations', async () => {
    const { account, lease, ledger } = await opened();
    const many = Array.from({ length: 4000 }, (_, index) => entry(`u${index}`));
    await Promise.all(many.map(async (each) => await ledger.put(undefined, each)));
    await Promise.all(many.map(async (each) => await ledger.put(each, { ...each, state: 'kept' })));
    assert.equal((await stored(account)).filter((line) => line.includes(' kept ')).length, 4000);
    const keys = accountKeys(account);
    assert.deepEqual([await redis.hlen(keys.open), await redis.hlen(keys.settled)], [0, 4000]);
    await lease.release();
  });
});

suite('a listing beside deliveries that outlived their session', () => {
  test('a message that settles while Redis is asked is neither new nor another', async () => {
    const { lease, ledger } = await opened();
    const open = entry('moving');
    await ledger.put(undefined, open);
    for (const name of ['a', 'b', 'c']) await ledger.put(undefined, entry(name, { state: 'kept', fingerprint: name }));
    const comparing = ledger.compare(rowsOf('moving', 'a', 'new', 'b', 'c'), KEEP, NOW);
    await new Promise(setImmediate);
    await ledger.put(open, { ...open, state: 'kept' });
    const { rows, entries } = await comparing;
    assert.deepEqual(
      rows.map(({ uniqueId }) => uniqueId).filter((name) => name !== 'moving'),
      ['new'],
    );
    assert.equal(entries.get('moving')?.[0]?.state, 'kept');
    assert.equal(entries.get('new'), undefined);
    await lease.release();
  });

  test('what settles in the very moment in which a comparison begins is written as settled', async () => {
    const { account, lease, ledger } = await opened();
    const open = entry('u');
    await ledger.put(undefined, open);
    const comparing = ledger.compare(rowsOf('u'), KEEP, NOW);
    await Promise.all([ledger.put(open, { ...open, state: 'kept' }), comparing]);
    assert.equal(await redis.hlen(accountKeys(account).settled), 1);
    await lease.release();
  });

  test('a message that settled a moment ago, its write under way, is known', async () => {
    const { lease, ledger } = await opened();
    const open = entry('u');
    await ledger.put(undefined, open);
    const write = ledger.put(open, { ...open, state: 'kept' });
    const { quiet, entries } = await ledger.compare(rowsOf('u'), KEEP, NOW);
    assert.ok(quiet === 1 || entries.get('u')?.[0]?.state === 'kept');
    await write;
    await lease.release();
  });

  test('polls that share a hold gather no memory: what settled is read anew', async () => {
    const { lease, ledger } = await opened();
    const many = Array.from({ length: 300 }, (_, index) => entry(`u${index}`, { state: 'kept' }));
    await Promise.all(many.map(async (each) => await ledger.put(undefined, each)));
    const { quiet, entries } = await ledger.compare(rowsOf(...many.map(({ uniqueId }) => uniqueId)), KEEP, NOW);
    assert.deepEqual([quiet, entries.size], [300, 0]);
    assert.deepEqual(ledger.group('u7'), []);
    await lease.release();
  });

  test('twins among thousands: absent ones are found, listed ones are counted once', async () => {
    const { lease, ledger } = await opened();
    const names = Array.from({ length: 2500 }, (_, index) => `u${index}`);
    await Promise.all(names.map(async (name) => await ledger.put(undefined, entry(name, { state: 'kept' }))));
    const listed = [...names.slice(1), 'u2499', 'u2499'];
    const { quiet, rows, entries } = await ledger.compare(rowsOf(...listed), KEEP, NOW);
    assert.deepEqual([quiet, rows.length], [2498, 3]);
    assert.deepEqual([...entries.keys()].sort(), ['u0', 'u2499']);
    await lease.release();
  });
});

suite('a Redis that fails', () => {
  test('an outage of seconds delays what was confirmed, and loses nothing', async () => {
    await using own = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    const connection = await connected(own);
    try {
      const { account, lease, ledger } = await opened(connection);
      await own.kill9();
      const write = ledger.put(undefined, entry('confirmed', { state: 'confirmed' }));
      await assert.rejects(connection.ping(), 'commands are given up');
      await own.restart();
      await write;
      assert.deepEqual(await stored(account, connection), ['confirmed confirmed 0']);
      await lease.release();
    } finally {
      connection.disconnect();
    }
  });

  test('a process that must end does not wait for it', async () => {
    await using own = await startRedis();
    const connection = await connected(own);
    try {
      const stop = new AbortController();
      const { lease, ledger } = await opened(connection, stop.signal);
      own.freeze();
      const write = ledger.put(undefined, entry('u'));
      const refused = assert.rejects(write, LedgerFailure);
      const began = performance.now();
      stop.abort();
      await refused;
      assert.ok(performance.now() - began < 1000);
      assert.ok(ledger.isBroken);
      await assert.rejects(ledger.flushed(), LedgerFailure);
      own.thaw();
      await lease.release();
    } finally {
      connection.disconnect();
    }
  });

  test('who waits for the write under way hears that it failed', async () => {
    const { account, lease, ledger } = await opened();
    await redis.set(accountKeys(account).fence, 'stolen');
    const write = assert.rejects(ledger.put(undefined, entry('u')), LedgerFailure);
    await Promise.resolve();
    await Promise.resolve();
    await assert.rejects(ledger.flushed(), LedgerFailure);
    await write;
    await lease.release();
  });

  for (const [name, spoil, mend] of [
    ['read-only', ['REPLICAOF', '127.0.0.1', '1'], ['REPLICAOF', 'NO', 'ONE']],
    ['out of memory', ['CONFIG', 'SET', 'maxmemory', '1'], ['CONFIG', 'SET', 'maxmemory', '0']],
  ] as const) {
    test(`${name}: tried again until it takes the write`, async () => {
      await using own = await startRedis();
      const connection = await connected(own);
      try {
        const { account, lease, ledger } = await opened(connection);
        const [first, ...rest] = spoil;
        await connection.call(first, ...rest);
        const write = ledger.put(undefined, entry('u'));
        await new Promise((resolve) => setTimeout(resolve, 150));
        const [undo, ...more] = mend;
        await connection.call(undo, ...more);
        await write;
        assert.deepEqual(await stored(account, connection), ['u open 0']);
        await lease.release();
      } finally {
        connection.disconnect();
      }
    });
  }
});
