// Places that workers share: never more than the limit, given back, and free again when a worker dies.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { withLimits } from '../../src/delivery/limited.ts';
import type { Delivery, Destination, Outcome } from '../../src/delivery/destination.ts';
import { Slots, sharedLimit } from '../../src/queue/slots.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';

describe('slots', { skip: redisAvailable() ?? false }, () => {
  let server: RunningRedis;
  let redis: Redis;
  before(async () => {
    server = await startRedis();
    redis = new Redis(server.socket, { replyMapping: 'legacy' });
  });
  after(async () => {
    redis.disconnect();
    await server.stop();
  });
  const worker = (slotTime?: number): Slots =>
    new Slots(redis, {
      onError: (error) => assert.fail(String(error)),
      ...(slotTime === undefined ? {} : { slotTime }),
    });
  const held = async (name: string): Promise<number> => await redis.zcard(`mailferry:{slots:${name}}`);

  test('two workers together take no more than there are', async () => {
    const [one, two] = [worker(), worker()];
    const place = { name: 'a', most: 3 };
    const taken = await Promise.all([one, two, one, two, one, two].map(async (slots) => await slots.take([place])));
    assert.equal(taken.filter(Boolean).length, 3);
    taken.find(Boolean)?.leave();
    await until(async () => (await held('a')) === 2, { what: 'one is free' });
    assert.ok(await two.take([place]));
    assert.equal(await one.take([place]), undefined);
    one.close();
    two.close();
  });

  test('all places or none', async () => {
    const slots = worker();
    const maildrop = { name: 'maildrop', most: 1 };
    const host = { name: 'server', most: 2 };
    const first = await slots.take([host, maildrop]);
    assert.ok(first);
    assert.equal(await slots.take([host, maildrop]), undefined);
    await until(async () => (await held('server')) === 1, { what: 'the place at the server is given back' });
    first.leave();
    await until(async () => (await held('server')) + (await held('maildrop')) === 0, { what: 'all are free' });
    slots.close();
  });

  test('a place is renewed while it is held, and runs out when its worker dies', async () => {
    const [living, dead] = [worker(150), worker(150)];
    const place = { name: 'b', most: 2 };
    assert.ok(await living.take([place]));
    assert.ok(await dead.take([place]));
    dead.close();
    const other = worker();
    const slot = await other.wait(place, AbortSignal.timeout(5000));
    assert.ok(slot, 'the place of the dead one is free');
    await new Promise((resolve) => setTimeout(resolve, 400));
    assert.equal(await other.take([place]), undefined, 'that of the living one is not');
    living.close();
    other.close();
    assert.equal(await other.wait(place, AbortSignal.timeout(50)), undefined, 'who waits may leave');
  });

  test('deliveries of two workers to one destination', async () => {
    let now = 0;
    let peak = 0;
    const ends: (() => void)[] = [];
    const destination: Destination = {
      name: 'd',
      check: async () => await Promise.resolve(''),
      close: async () => await Promise.resolve(),
      async deliver(): Promise<Outcome> {
        now += 1;
        peak = Math.max(peak, now);
        await new Promise<void>((resolve) => ends.push(resolve));
        now -= 1;
        return { kind: 'confirmed', said: '', scope: 'message' };
      },
    };
    const workers = [worker(), worker()];
    const [one, two] = workers.map((slots) => {
      const shared = sharedLimit('d', slots, () => 2);
      return withLimits(destination, { limit: 10, timeout: 60_000, announces: false, shared });
    });
    const stop = new AbortController();
    let begun = 0;
    const delivery = {
      signal: stop.signal,
      mayBegin: async () => await Promise.resolve(++begun > 0),
    } as Partial<Delivery> as Delivery;
    const outcomes = [one, two, one, two, one].map(async (each) => (await each?.deliver(delivery))?.kind);
    await until(() => ends.length === 2, { what: 'two deliveries that run' });
    for (let ended = 0; ended < 4; ended += 1) {
      await until(() => ends.length > 0, { what: 'a delivery that runs' });
      assert.ok(begun <= ended + 2, 'nothing is written down of one that waits');
      ends.shift()?.();
    }
    await until(() => ends.length > 0);
    assert.equal(peak, 2);
    ends.shift()?.();
    assert.deepEqual(
      await Promise.all(outcomes),
      Array.from({ length: 5 }, () => 'confirmed'),
    );
    for (const slots of workers) slots.close();
  });
});
