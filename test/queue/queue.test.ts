// The queue against a real Redis: what a start costs, in commands, and in which order accounts are polled.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import type { AccountConfig } from '../../src/config/types.ts';
import { PollQueue } from '../../src/queue/queue.ts';
import { queueConnection } from '../../src/store/redis.ts';
import { offsetOf } from '../../src/sync/schedule.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';

type Schedule = AccountConfig['schedule'];

const HOURLY = { kind: 'every', milliseconds: 3_600_000 } as const satisfies Schedule;
const CRON: Schedule = { kind: 'cron', expression: '*/5 * * * *', timezone: 'Europe/Paris' };

function accounts(entries: Readonly<Record<string, Schedule>>): ReadonlyMap<string, AccountConfig> {
  return new Map(
    Object.entries(entries).map(([name, schedule]) => [
      name,
      { name, schedule } as Partial<AccountConfig> as AccountConfig,
    ]),
  );
}

describe('the queue', { skip: redisAvailable() ?? false }, () => {
  let server: RunningRedis;
  let redis: Redis;
  let connection: Redis;
  let prefixes = 0;
  before(async () => {
    server = await startRedis();
    redis = new Redis(server.socket, { replyMapping: 'legacy' });
    connection = queueConnection({ kind: 'socket', path: server.socket }, 'test', () => undefined);
  });
  after(async () => {
    redis.disconnect();
    connection.disconnect();
    await server.stop();
  });

  function queue(concurrency = 1, prefix = `{test${String(++prefixes)}}`): PollQueue {
    return new PollQueue({ connection, prefix, concurrency, onError: (error) => assert.fail(error) });
  }

  /** How often each command ran during that. */
  async function commands(work: () => Promise<unknown>): Promise<ReadonlyMap<string, number>> {
    await redis.config('RESETSTAT');
    await work();
    const stats = await redis.info('commandstats');
    return new Map(
      [...stats.matchAll(/^cmdstat_(\w+):calls=(\d+)/gm)].map(([, name = '', calls]) => [name, Number(calls)]),
    );
  }

  test('a restart with the same schedules only reads; a change writes what changed', async () => {
    const COUNT = 300;
    const names = Array.from({ length: COUNT }, (_, index) => `account${String(index)}`);
    const all = Object.fromEntries(names.map((name, index) => [name, index % 2 === 0 ? HOURLY : CRON]));
    const [first, second] = [queue(1, '{start}'), queue(1, '{start}')];
    assert.deepEqual(await first.setSchedules(accounts(all)), { added: COUNT, changed: 0, removed: 0 });
    const again = await commands(async () => {
      assert.deepEqual(await second.setSchedules(accounts(all)), { added: 0, changed: 0, removed: 0 });
    });
    for (const written of ['evalsha', 'eval', 'zadd', 'hset', 'hmset', 'xadd', 'del'])
      assert.equal(again.get(written) ?? 0, 0, `${written} at a restart`);
    assert.equal(again.get('hgetall'), COUNT, 'one read each');
    const changed = await commands(async () => {
      const { account0: _, ...others } = all;
      const next = accounts({ ...others, account1: HOURLY, another: CRON });
      assert.deepEqual(await second.setSchedules(next), { added: 1, changed: 1, removed: 1 });
    });
    // Two schedules, the first poll of the new account, and the one that goes; each at most twice, where Redis does not know the script.
    assert.ok((changed.get('evalsha') ?? 0) + (changed.get('eval') ?? 0) <= 8, JSON.stringify([...changed]));
    const guard = await commands(async () => assert.equal(await second.hasSchedules(accounts(all)), true));
    assert.equal((guard.get('zcard') ?? 0) + (guard.get('hgetall') ?? 0), 1, 'looking after them is one question');
    await first.close();
    await second.close();
  });

  test('an account whose place is the beginning of its period keeps it', async () => {
    const { milliseconds } = HOURLY;
    let index = 0;
    while (offsetOf(String(index), milliseconds) > 0) index += 1;
    const first = queue();
    await first.setSchedules(accounts({ [index]: HOURLY }));
    const next = (await first.nextPolls()).get(String(index)) ?? 0;
    assert.equal(next % milliseconds, 1);
    assert.equal((await first.setSchedules(accounts({ [index]: HOURLY }))).changed, 0);
    await first.close();
  });

  test('an account with more to do goes behind those that wait', async () => {
    const polls = queue();
    const order: string[] = [];
    for (const name of ['big', 'a', 'b', 'c']) await polls.pollSoon(name, 0);
    polls.start(async (name) => {
      order.push(name);
      if (order.length === 6) for (const other of ['d', 'e']) await polls.pollSoon(other, 0);
      return { followUp: name === 'big' && order.length < 9 ? Date.now() : 0 };
    });
    await until(() => order.length >= 9, { what: order.join(' ') });
    await polls.close();
    assert.deepEqual(order.slice(0, 5), ['big', 'a', 'b', 'c', 'big']);
    // Those that come while it works are polled before it is again, but for the poll that waits already.
    assert.ok(order.indexOf('e') <= 8, order.join(' '));
  });

  test('polls that are asked for again and again are one', async () => {
    const polls = queue();
    let ended = 0;
    for (let asked = 0; asked < 5; asked += 1) await polls.pollSoon('a', Date.now() + 50 - asked);
    await polls.pollSoon('b', Date.now() + 200);
    const order: string[] = [];
    polls.start(async (name) => {
      order.push(name);
      ended += 1;
      return await Promise.resolve({ followUp: 0 });
    });
    await until(() => order.includes('b'), { what: 'the later one' });
    await polls.close();
    assert.deepEqual([order, ended], [['a', 'b'], 2]);
  });

  test('an account is scheduled until it is removed', async () => {
    const polls = queue();
    await polls.setSchedules(accounts({ a: HOURLY, b: CRON }));
    assert.deepEqual([await polls.isScheduled('a'), await polls.isScheduled('c')], [true, false]);
    await polls.setSchedules(accounts({ b: CRON }));
    assert.equal(await polls.isScheduled('a'), false);
    assert.deepEqual([...(await polls.nextPolls()).keys()], ['b']);
    await polls.close();
  });
});
