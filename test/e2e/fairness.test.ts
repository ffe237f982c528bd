// Nothing blocks the rest: a destination that hangs for ever, servers that hang or crawl, a backlog beside small accounts.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { mails } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';

describe('fairness', { skip: redisAvailable() ?? false, concurrency: 3 }, () => {
  test(
    'a destination that hangs for ever holds up neither the other nor the session',
    { timeout: 120_000 },
    async (t) => {
      const pop3 = await startPop3Server({}, t);
      const drop = pop3.drop();
      const world = await World.open({ owner: t, pop3: pop3 as never });
      await world.mailferry.configure(
        world.config({
          account: { user: 'jane', password: 'secret' },
          hook: { concurrency: 2, timeout: '1h' },
        }),
      );
      world.hook.when({ action: 'stallAfterBody' });
      const sent = mails('hang', 300);
      drop.add(...sent.map(({ octets }) => octets));
      const began = performance.now();
      const worker = world.start();
      await until(() => new Set(world.inbox.messages.map(({ sha256BelowTrace }) => sha256BelowTrace)).size === 300, {
        timeout: 90_000,
        what: `all at the destination that works: ${worker.noise}`,
      });
      t.diagnostic(`300 messages in ${String(Math.round((performance.now() - began) / 1000))} s`);
      assert.equal(world.inbox.messages.length, 300, 'none twice');
      assert.equal(world.hook.requests.length, 2, 'no more than its concurrency');
      assert.equal(drop.messages.length, 300, 'nothing is deleted that one destination lacks');
      for (const { milliseconds } of worker.logged('polled'))
        assert.ok(Number(milliseconds) < 15_000, `a session of ${String(milliseconds)} ms`);
      await until(() => pop3.open === 0, { timeout: 30_000, what: 'the session ends' });
      await worker.kill9();
    },
  );

  test('a server that hangs and one that crawls, among many', { timeout: 120_000 }, async (t) => {
    const users = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`user${String(index)}`, 'secret']));
    const pop3 = await startPop3Server({ users }, t);
    const hanging = await startPop3Server({ rules: [{ on: /^$/, stallAfter: 0 }] }, t);
    const crawling = await startPop3Server({ rules: [{ on: /^RETR/, chunk: 1, delay: 1 }] }, t);
    const world = await World.open({ owner: t, pop3: pop3 as never });
    const account = { ...(world.config()['accounts'] as Record<string, Record<string, unknown>>)['isp'] };
    const of = (port: number, user: string): Record<string, unknown> => ({
      ...account,
      port,
      user,
      password: 'secret',
      timeout: '5s',
      deliverTo: ['hook'],
    });
    await world.mailferry.configure({
      ...world.config(),
      concurrency: 6,
      accounts: {
        'a-hanging': of(hanging.port, 'jane'),
        'b-crawling': of(crawling.port, 'jane'),
        ...Object.fromEntries(Object.keys(users).map((user) => [user, of(pop3.port, user)])),
      },
    });
    for (const user of Object.keys(users)) pop3.drop(user).add(...mails(user, 3).map(({ octets }) => octets));
    crawling.drop().add(...mails('crawl', 5, 100_000).map(({ octets }) => octets));
    const began = performance.now();
    const worker = world.start();
    const left = (): number => Object.keys(users).reduce((sum, user) => sum + pop3.drop(user).messages.length, 0);
    await until(() => left() === 0, { timeout: 30_000, what: `20 accounts drained: ${worker.noise}` });
    const took = performance.now() - began;
    t.diagnostic(`20 accounts drained in ${String(Math.round(took))} ms`);
    assert.ok(took < 15_000, 'not slowed by the two');
    const failed = await worker.says('poll failed');
    assert.equal(failed['account'], 'a-hanging');
    assert.match(String(failed['code']), /timeout/);
    await worker.stop();
  });

  test('a backlog beside small accounts', { timeout: 120_000 }, async (t) => {
    const pop3 = await startPop3Server({ users: { big: 'secret', small: 'secret' } }, t);
    const world = await World.open({ owner: t, pop3: pop3 as never });
    const account = { ...(world.config()['accounts'] as Record<string, Record<string, unknown>>)['isp'] };
    const of = (user: string, more: object): object => ({
      ...account,
      user,
      password: 'secret',
      deliverTo: ['hook'],
      ...more,
    });
    await world.mailferry.configure({
      ...world.config(),
      concurrency: 1,
      accounts: { big: of('big', { maxMessagesPerPoll: 100 }), small: of('small', {}) },
    });
    pop3.drop('big').add(...mails('big', 3000).map(({ octets }) => octets));
    const worker = world.start();
    await until(() => world.hook.accepted.length > 0, { timeout: 20_000 });
    pop3.drop('small').add(...mails('small', 1).map(({ octets }) => octets));
    await world.pollNow('small');
    await until(() => pop3.drop('small').messages.length === 0, { timeout: 60_000, interval: 5 });
    assert.ok(pop3.drop('big').messages.length > 0, 'the small one did not wait for the backlog');
    await until(() => pop3.drop('big').messages.length === 0, { timeout: 60_000 });
    assert.equal(world.hook.accepted.length, 3001, 'none twice');
    assert.equal(await worker.stop(), 0, worker.noise);
  });
});
