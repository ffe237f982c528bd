// A Redis that forgets, refuses or is unfit. Mail is never lost for it, and old mail never floods a destination.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Clock } from '../support/clock.ts';
import { mails } from '../support/outside.ts';
import { startRedis } from '../support/redis.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';
import { oneDovecot, World } from '../support/world.ts';

const MINUTE = 60_000;

interface Status {
  readonly state: string;
  readonly problem: string;
  readonly remedy: string;
}

describe('a Redis with faults', { skip: serversAvailable() ?? false, concurrency: 3 }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(6);
  });
  after(() => pop3.stop());

  for (const [choice, user] of [
    ['deliver', 'u1'],
    ['skip', 'u2'],
  ] as const) {
    test(`emptied between polls of a worker: held until "resume ${choice}"`, async (t) => {
      const world = await World.open({ owner: t, pop3, user, account: { retention: 'keep' } });
      const clock = await Clock.of(world.mailferry);
      await world.put(mails('old', 5));
      const worker = world.start();
      await until(() => worker.logged('polled').length > 0, { timeout: 20_000, what: worker.noise });
      assert.equal(world.hook.accepted.length, 5);

      await world.redis.flushall();
      const failed = await worker.says('poll failed', 40_000);
      assert.equal(failed['code'], 'ledger.lost');
      assert.equal(failed['needsPerson'], true);
      const [status] = await world.mailferry.json<Status[]>('status');
      assert.equal(status?.state, 'needs a person');
      assert.match(status.remedy, /mailferry resume isp deliver.*mailferry resume isp skip/s);
      await clock.advance(60 * MINUTE);
      await world.pollNow();
      await until(() => worker.logged('poll failed').length > 1);
      assert.equal(world.hook.accepted.length, 5, 'no flood');

      assert.equal((await world.mailferry.run('resume', 'isp', choice)).code, 0);
      await pop3.deliver(
        user,
        mails('new', 1).map(({ octets }) => octets),
      );
      await world.pollNow();
      await worker.says('works again').catch(() => undefined);
      await until(() => worker.logged('polled').some(({ listed }) => listed === 6), { timeout: 20_000 });
      assert.equal(world.hook.accepted.length, choice === 'deliver' ? 11 : 5, 'after the choice');
      if (choice === 'skip') {
        // What comes after the choice is new.
        await pop3.deliver(
          user,
          mails('newer', 1).map(({ octets }) => octets),
        );
        await world.pollNow();
        await until(() => world.hook.accepted.length === 6, { timeout: 20_000, what: 'new mail is delivered' });
      }
      assert.equal(await pop3.count(user), choice === 'deliver' ? 6 : 7);
      assert.equal(await worker.stop(), 0, worker.noise);
    });
  }

  test('emptied amid a poll: nothing is deleted any more, then held', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u3' });
    const sent = mails('amid', 60);
    await world.put(sent);
    let flushed = false;
    world.hook.when({
      action: async () => {
        if (world.hook.requests.length >= 20 && !flushed) {
          flushed = true;
          await world.redis.flushall();
        }
        return undefined;
      },
    });
    const first = await world.mailferry.run('sync');
    assert.equal(first.code, 69);
    // Dovecot may still be moving files about: what is counted settles, unless something was deleted.
    await until(async () => (await pop3.count('u3')) === 60, { what: 'all 60 messages: the session did not commit' });
    const before_ = world.hook.requests.length;
    const second = await world.mailferry.run('sync');
    assert.equal(second.code, 69);
    assert.match(second.stdout, /ledger is empty/);
    assert.equal(world.hook.requests.length, before_, 'no flood');
    assert.equal((await world.mailferry.run('resume', 'isp', 'deliver')).code, 0);
    const last = await world.mailferry.run('sync');
    assert.equal(last.code, 0, last.stdout + last.stderr);
    assert.equal(await pop3.count('u3'), 0);
  });

  for (const [what, user, spoil, mend, reason] of [
    ['a replica', 'u4', ['REPLICAOF', '127.0.0.1', '1'], ['REPLICAOF', 'NO', 'ONE'], /replica/],
    ['without memory', 'u5', ['CONFIG', 'SET', 'maxmemory', '1'], ['CONFIG', 'SET', 'maxmemory', '0'], /memory/],
  ] as const) {
    test(`${what}: says so, and goes on when that is over`, async (t) => {
      const world = await World.open({ owner: t, pop3, user });
      await world.put(mails('first', 2));
      assert.equal((await world.mailferry.run('sync')).code, 0);
      await world.put(mails('second', 2));
      const [command, ...words] = spoil;
      await world.redis.call(command, ...words);
      const { code, stdout } = await world.mailferry.run('sync');
      assert.equal(code, 69);
      assert.match(stdout, reason);
      assert.doesNotMatch(stdout, /report this/);
      assert.equal(await pop3.count(user), 2);
      await world.redis.call(mend[0], ...mend.slice(1));
      assert.equal((await world.mailferry.run('sync')).code, 0);
      assert.equal(world.hook.accepted.length, 4);
      assert.equal(world.inbox.messages.length, 4);
    });
  }

  test('one that may evict keys is refused at the start', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u6' });
    await using evicting = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] });
    await world.mailferry.configure(world.config({ root: { redis: { socket: evicting.socket } } }));
    const { code, stderr } = await world.mailferry.run('sync');
    assert.equal(code, 69);
    assert.match(stderr, /evict/);
    assert.match(stderr, /noeviction/);
  });
});
