import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Redis } from 'ioredis';
import { accountKeys } from '../../src/store/keys.ts';
import { Lease } from '../../src/store/lease.ts';
import { ledgerConnection } from '../../src/store/redis.ts';
import { Holds } from '../../src/sync/hold.ts';
import { startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';

let server: RunningRedis;
let redis: Redis;

before(async () => {
  server = await startRedis();
  redis = ledgerConnection({ kind: 'socket', path: server.socket }, 'test', () => undefined);
  await redis.connect();
});

after(async () => {
  redis.disconnect();
  await server.stop();
});

suite('the lease', () => {
  test('has one holder at a time, and tokens only grow', async () => {
    const attempts = await Promise.all(Array.from({ length: 20 }, async () => await Lease.acquire(redis, 'one')));
    const held = attempts.filter((lease) => lease !== undefined);
    assert.equal(held.length, 1);
    const [first] = held;
    assert.ok(first?.isValid);
    await first.release();
    const second = await Lease.acquire(redis, 'one');
    assert.ok(second && second.token > first.token);
    await second.release();
  });

  test('is renewed while it is held', async () => {
    const lease = await Lease.acquire(redis, 'renewed', { leaseTime: 300 });
    assert.ok(lease);
    const renewals = Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))?.[1]);
    await until(
      async () => Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))?.[1]) > renewals + 20,
    );
    assert.ok(lease.isValid);
    assert.equal(await Lease.acquire(redis, 'renewed'), undefined);
    await lease.release();
  });

  test('is not valid by the clock alone once its time is over, and asks before it says so', async () => {
    let now = 0;
    const lease = await Lease.acquire(redis, 'frozen', { leaseTime: 60_000, monotonic: () => now });
    assert.ok(lease?.isValid);
    now = 60_001; // this process was stopped meanwhile
    assert.equal(lease.isValid, false);
    assert.equal(await lease.confirm(), true, 'nobody else took it');
    now = 200_000;
    await redis.del(accountKeys('frozen').lease);
    const thief = await Lease.acquire(redis, 'frozen');
    assert.equal(await lease.confirm(), false);
    assert.ok(lease.lost.aborted);
    await lease.release();
    assert.ok(await redis.exists(accountKeys('frozen').lease), "another's lease is not released");
    await thief?.release();
  });

  test('a hold is shared by a poll and what outlives it, and by no second poll', async () => {
    const holds = new Holds(redis);
    const hold = await holds.acquire('shared');
    assert.ok(hold);
    assert.equal(await holds.acquire('shared'), undefined);
    assert.equal(await new Holds(redis).acquire('shared'), undefined, 'another process');
    holds.share(hold); // deliveries go on
    hold.polling = false;
    await holds.release(hold);
    const again = await holds.acquire('shared');
    assert.equal(again, hold);
    hold.polling = false;
    await holds.release(hold);
    await holds.release(hold);
    const other = await new Holds(redis).acquire('shared');
    assert.ok(other, 'free once the last has let go');
    await other.lease.release();
  });
});
