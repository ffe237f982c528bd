// Nothing blocks the rest: a destination that hangs for ever, servers that hang or crawl, a backlog beside small accounts.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import type { LogLine } from '../support/mailferry.ts';
import { mails } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';

const BACKLOG = Number(process.env['FAIRNESS_BACKLOG'] ?? 3000);
const SMALL = Number(process.env['FAIRNESS_SMALL'] ?? 30);

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

  // In full: FAIRNESS_BACKLOG=50000 FAIRNESS_SMALL=200
  test('a backlog beside small accounts', { timeout: BACKLOG > 10_000 ? 1_800_000 : 120_000 }, async (t) => {
    const small = Array.from({ length: SMALL }, (_, index) => `small${String(index)}`);
    const users = Object.fromEntries(['big', ...small].map((user) => [user, 'secret']));
    const pop3 = await startPop3Server({ users }, t);
    const world = await World.open({ owner: t, pop3: pop3 as never });
    const account = { ...(world.config()['accounts'] as Record<string, Record<string, unknown>>)['isp'] };
    const of = (user: string, more: object = {}): object => ({
      ...account,
      user,
      password: 'secret',
      deliverTo: ['hook'],
      every: '10s',
      maxMessagesPerPoll: Math.ceil(BACKLOG / 30),
      ...more,
    });
    await world.mailferry.configure({
      ...world.config(),
      // One place: whoever is polled makes all others wait.
      concurrency: 1,
      accounts: { big: of('big'), ...Object.fromEntries(small.map((user) => [user, of(user)])) },
    });
    const put = (user: string, name: string, count: number): void =>
      void pop3.drop(user).add(...mails(name, count).map(({ octets }) => octets));
    put('big', 'big', BACKLOG);
    for (const user of small) put(user, user, 1);
    const began = performance.now();
    const worker = world.start();
    const polled = (): string[] => worker.logged('polled').map((line) => String(line['account']));
    const isIdle = (): boolean => small.every((user) => pop3.drop(user).messages.length === 0);
    await until(() => isIdle(), { timeout: 60_000, interval: 5, what: 'the first mail of the small ones' });
    // At the start all wait: each small account is polled before the big one has had its third turn.
    assert.ok(polled().filter((name) => name === 'big').length <= 2, polled().join(' '));
    // New mail for all of them, again and again: they keep being served while the backlog drains.
    let rounds = 0;
    while (pop3.drop('big').messages.length > BACKLOG / 3) {
      rounds += 1;
      for (const user of small) put(user, `${user}.${String(rounds)}`, 1);
      for (const user of small) await world.pollNow(user);
      const before = polled().length;
      await until(() => isIdle(), { timeout: 60_000, interval: 5, what: `round ${String(rounds)}` });
      const turns = polled()
        .slice(before)
        .filter((name) => name === 'big').length;
      assert.ok(turns <= 2, `the big one had ${String(turns)} turns while all others waited`);
    }
    await until(() => pop3.drop('big').messages.length === 0, { timeout: BACKLOG * 20, what: 'the backlog' });
    const took = performance.now() - began;
    assert.equal(world.hook.accepted.length, BACKLOG + (rounds + 1) * SMALL, 'each once');
    assert.ok(rounds > 0, 'small accounts were served while the backlog drained');
    const countTurns = (): number => polled().filter((name) => name === 'big').length;
    await until(() => countTurns() + worker.logged('poll failed').length >= 30, { what: 'the backlog came in pieces' });
    const peak = /VmHWM:\s+(\d+)/.exec(
      await readFile(`/proc/${String(worker.child.pid)}/status`, 'utf8').catch(() => ''),
    );
    const seconds = Math.round(took / 1000);
    t.diagnostic(
      `${String(BACKLOG)} beside ${String(SMALL)}: ${String(seconds)} s, ${String(countTurns())} turns of the big one, ` +
        `${String(rounds)} rounds of the others, latest by ${String(lateness(worker.logged('polled')))} s, ` +
        `${String(worker.logged('poll failed').length)} polls failed, memory at most ${String(Math.round(Number(peak?.[1] ?? 0) / 1024))} MB`,
    );
    assert.equal(await worker.stop(), 0, worker.noise);
  });
});

/** The longest time between two polls of one small account, beyond its 10 s. Seconds. */
function lateness(polled: readonly LogLine[]): number {
  const last = new Map<string, number>();
  let most = 0;
  for (const { account, time } of polled) {
    const at = Date.parse(String(time));
    const before = last.get(String(account));
    if (before !== undefined && account !== 'big') most = Math.max(most, at - before - 10_000);
    last.set(String(account), at);
  }
  return Math.round(most / 1000);
}
