// Limits that all workers on one Redis keep together.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { hookIds, mails } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';

type Options = Readonly<Record<string, unknown>>;

/** The most connections that were open at one time, looked at all the time. */
function watchPeak(pop3: Pop3Server): { readonly peak: () => number; readonly end: () => void } {
  let peak = 0;
  const timer = setInterval(() => (peak = Math.max(peak, pop3.open)), 1);
  return { peak: () => peak, end: () => clearInterval(timer) };
}

describe('guards', { skip: redisAvailable() ?? false, concurrency: 2 }, () => {
  test(
    'two workers, one server: no more sessions than its limit, and others are not held up',
    { timeout: 90_000 },
    async (t) => {
      const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`user${String(index)}`, 'secret']));
      // Slow enough for sessions to meet.
      const pop3 = await startPop3Server({ users, delay: 5 }, t);
      const free = await startPop3Server({}, t);
      const world = await World.open({ owner: t, pop3: pop3 as never });
      const isp = (world.config()['accounts'] as Record<string, Options>)['isp'];
      const of = (port: number, user: string): Options => ({
        ...isp,
        port,
        user,
        password: 'secret',
        deliverTo: ['hook'],
      });
      await world.mailferry.configure({
        ...world.config(),
        concurrency: 3,
        limits: { sessionsPerServer: 2, deliveriesPerDestination: 1 },
        accounts: {
          ...Object.fromEntries(Object.keys(users).map((user) => [user, of(pop3.port, user)])),
          'z-free': of(free.port, 'jane'),
        },
      });
      const sent = Object.keys(users).flatMap((user) => {
        const some = mails(user, 3);
        pop3.drop(user).add(...some.map(({ octets }) => octets));
        return some;
      });
      free.drop().add(...mails('free', 1).map(({ octets }) => octets));
      const watched = watchPeak(pop3);
      t.after(async () => await Promise.resolve(watched.end()));
      const first = world.start();
      await first.says('mailferry started');
      const second = world.start();
      await until(() => free.drop().messages.length === 0, { what: 'an account of another server' });
      const left = (): number => Object.keys(users).reduce((sum, user) => sum + pop3.drop(user).messages.length, 0);
      await until(() => left() === 0, { timeout: 60_000, what: `all are drained; ${first.noise}${second.noise}` });
      assert.equal(watched.peak(), 2);
      assert.equal(world.hook.peak, 1, 'deliveries at a time');
      assert.equal(new Set(hookIds(world.hook)).size, sent.length + 1);
      assert.equal(world.hook.accepted.length, sent.length + 1, 'none twice');
      assert.deepEqual([await first.stop(), await second.stop()], [0, 0]);
    },
  );

  test('one maildrop in two accounts: told, and one session at a time', { timeout: 60_000 }, async (t) => {
    const pop3 = await startPop3Server({ delay: 5, locks: false }, t);
    const world = await World.open({ owner: t, pop3: pop3 as never });
    const isp = (world.config()['accounts'] as Record<string, Options>)['isp'];
    const jane = { ...isp, user: 'jane', password: 'secret', deliverTo: ['hook'] };
    await world.mailferry.configure({ ...world.config(), accounts: { one: jane, two: jane } });
    pop3.drop().add(...mails('both', 20).map(({ octets }) => octets));
    const watched = watchPeak(pop3);
    t.after(async () => await Promise.resolve(watched.end()));
    const worker = world.start();
    await worker.says('config problem');
    assert.match(
      String(worker.logged('config problem')[0]?.['problem']),
      /two\.user: .*same maildrop as account `one`/,
    );
    await until(() => new Set(worker.logged('polled').map(({ account }) => account)).size === 2, {
      timeout: 30_000,
      what: 'both are polled',
    });
    assert.equal(watched.peak(), 1);
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('large messages on the disk stay within the budget of the process', { timeout: 60_000 }, async (t) => {
    const pop3 = await startPop3Server({ users: { a: 'secret', b: 'secret' } }, t);
    const world = await World.open({ owner: t, pop3: pop3 as never });
    const isp = (world.config()['accounts'] as Record<string, Options>)['isp'];
    const of = (user: string): Options => ({ ...isp, user, password: 'secret', deliverTo: ['hook'] });
    await world.mailferry.configure({
      ...world.config({ hook: { concurrency: 20 } }),
      spoolBudget: '1MB',
      accounts: { a: of('a'), b: of('b') },
    });
    for (const user of ['a', 'b']) pop3.drop(user).add(...mails(user, 10, 400_000).map(({ octets }) => octets));
    let full = false;
    // Nothing is answered until as much lies there as may.
    world.hook.when({
      action: async () => {
        await until(() => full);
        return undefined;
      },
    });
    const files = async (): Promise<number> =>
      (await readdir(join(world.mailferry.dataDir, 'spool')).catch(() => [])).length;
    const worker = world.start();
    await until(() => world.hook.open >= 2, { timeout: 20_000, what: `deliveries; ${worker.noise}` });
    let most = 0;
    for (let looks = 0; looks < 50; looks += 1) {
      most = Math.max(most, await files());
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    full = true;
    await until(() => pop3.drop('a').messages.length + pop3.drop('b').messages.length === 0, { timeout: 30_000 });
    // Two of 400 KB are within it, and each of the two sessions may have one beyond.
    assert.ok(most >= 2 && most <= 4, `${String(most)} files`);
    assert.equal(world.hook.accepted.length, 20);
    assert.equal(await worker.stop(), 0, worker.noise);
  });
});
