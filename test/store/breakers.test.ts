// Circuit breakers over two workers and one real Redis: one probe, whoever makes it; one view of what is paused.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { Breakers } from '../../src/store/breakers.ts';
import type { Pass } from '../../src/store/breakers.ts';
import { runScript, SET_BREAKER } from '../../src/store/scripts.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';

const NAME = 'inbox';

describe('breakers', { skip: redisAvailable() ?? false }, () => {
  let server: RunningRedis;
  let redis: Redis;
  let now = 0;
  let changes: string[] = [];
  before(async () => {
    server = await startRedis();
    redis = new Redis(server.socket, { replyMapping: 'legacy' });
  });
  after(async () => {
    redis.disconnect();
    await server.stop();
  });
  beforeEach(async () => {
    await redis.flushall();
    now = 1_800_000_000_000;
    changes = [];
  });

  function worker(name: string): Breakers {
    return new Breakers(redis, {
      now: () => now,
      random: () => 0.5,
      onChange: (_, { openUntil }) => changes.push(`${name} ${openUntil > 0 ? 'paused' : 'back'}`),
    });
  }

  async function enter(breakers: Breakers): Promise<Pass> {
    const pass = await breakers.enter(NAME);
    assert.ok(pass);
    return pass;
  }

  /** A pause that `by` has found out, and that is over now for all. */
  async function paused(by: Breakers, ...others: Breakers[]): Promise<void> {
    for (let failure = 1; failure <= 3; failure++) await by.end(await enter(by), 'fails', 'refused');
    now += 3000;
    for (const one of others) await one.refresh([NAME]);
    assert.ok(others.every((one) => one.opensAt(NAME) > now));
    assert.equal(await by.enter(NAME), undefined, 'while it is paused, nothing begins');
    now = by.opensAt(NAME);
  }

  test('when a pause is over one delivery of one worker begins, and its success is every worker’s', async () => {
    const [a, b] = [worker('a'), worker('b')];
    await paused(a, b);
    const passes = await Promise.all(
      [...Array(20).keys()].map(async (index) => await (index % 2 === 0 ? a : b).enter(NAME)),
    );
    const granted = passes.filter((pass) => pass !== undefined);
    assert.equal(granted.length, 1);
    assert.ok(a.opensAt(NAME) > now && b.opensAt(NAME) > now, 'mail is not retrieved meanwhile');
    const [probe] = granted as [Pass];
    const prober = passes.indexOf(probe) % 2 === 0 ? a : b;
    const other = prober === a ? b : a;
    await prober.end(probe, 'works', '250 taken');
    assert.equal(prober.opensAt(NAME), 0);
    now += 3000;
    await other.refresh([NAME]);
    assert.equal(other.opensAt(NAME), 0);
    assert.equal((await enter(other)).claim, undefined);
    assert.deepEqual(changes, ['a paused', `${prober === a ? 'a' : 'b'} back`]);
    assert.deepEqual(await redis.keys('*'), []);
  });

  test('a probe that fails pauses it for all, longer', async () => {
    const [a, b] = [worker('a'), worker('b')];
    await paused(a, b);
    const before = a.opensAt(NAME) || now;
    await b.end(await enter(b), 'fails', 'refused');
    now += 2500;
    await a.refresh([NAME]);
    assert.ok(a.opensAt(NAME) > before + 10_000, 'for 15 s now, not 7.5');
    assert.equal(await a.enter(NAME), undefined);
    assert.equal(await redis.exists(`mailferry:{destination:${NAME}}:probe`), 0);
  });

  test('a probe that is broken off lets the next one begin at once', async () => {
    const [a, b] = [worker('a'), worker('b')];
    await paused(a, b);
    const probe = await enter(a);
    assert.equal(await b.enter(NAME), undefined);
    await a.cancel(probe);
    now += 5001;
    assert.ok((await enter(b)).claim);
    b.close();
  });

  test('the claim of a prober that crashed runs out', async () => {
    const [a, b] = [worker('a'), worker('b')];
    await paused(a, b);
    await enter(a);
    a.close(); // a process that is gone renews nothing
    assert.equal(await b.enter(NAME), undefined);
    const left = await redis.pttl(`mailferry:{destination:${NAME}}:probe`);
    assert.ok(left > 0 && left <= 30_000, String(left));
    await redis.pexpire(`mailferry:{destination:${NAME}}:probe`, 0);
    now += 30_001;
    assert.ok((await enter(b)).claim);
    b.close();
  });

  test('a worker that knows nothing of a pause cannot end it by a first failure of its own', async () => {
    const [a, b] = [worker('a'), worker('b')];
    const early = await enter(b);
    for (let failure = 1; failure <= 3; failure++) await a.end(await enter(a), 'fails', 'refused');
    await b.end(early, 'fails', 'refused');
    assert.ok(b.opensAt(NAME) > now);
    assert.deepEqual(changes, ['a paused']);
  });

  test('failures of several workers add up', async () => {
    const workers = [worker('a'), worker('b'), worker('c')];
    const passes = await Promise.all(workers.map(enter));
    await Promise.all(workers.map(async (one, index) => await one.end(passes[index] as Pass, 'fails', 'refused')));
    assert.equal(changes.length, 1);
    assert.match(changes[0] ?? '', /paused/);
  });

  test('a pause that waits for a person is over when one may have helped', async () => {
    const [a, b] = [worker('a'), worker('b')];
    await a.end(await enter(a), 'gone', 'HTTP 410');
    assert.ok(a.opensAt(NAME) > now + 86_400_000);
    await b.retry([NAME]);
    assert.equal(b.opensAt(NAME), 0);
    const probe = await enter(b);
    assert.ok(probe.claim, 'with one delivery first');
    await b.end(probe, 'works', 'HTTP 200');
    assert.deepEqual(changes, ['a paused', 'b back']);
  });

  test('without Redis it holds for the worker that found it out', async () => {
    const away = new Redis(server.socket, { replyMapping: 'legacy', retryStrategy: () => null });
    const seen: string[] = [];
    const lonely = new Breakers(away, {
      now: () => now,
      random: () => 0.5,
      onChange: (_, { failures }) => seen.push(String(failures)),
    });
    away.disconnect();
    for (let failure = 1; failure <= 3; failure++) await lonely.end(await enter(lonely), 'fails', 'refused');
    assert.ok(lonely.opensAt(NAME) > now);
    assert.deepEqual(seen, ['3']);
  });

  test('what was written meanwhile is told instead of being overwritten', async () => {
    const keys = [`mailferry:{destination:${NAME}}:breaker`, `mailferry:{destination:${NAME}}:probe`];
    assert.equal(await runScript(redis, SET_BREAKER, [...keys, '', 'one', 1000, '']), null);
    assert.equal(await runScript(redis, SET_BREAKER, [...keys, '', 'two', 1000, '']), 'one');
  });
});
