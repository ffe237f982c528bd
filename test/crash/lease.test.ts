// Two workers on the same accounts, one of them frozen past its lease amid its work and thawed: it writes nothing, deletes
// nothing, and begins no delivery.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Clock } from '../support/clock.ts';
import { assertNothingLost, assertRepeatsFlagged, hookIds, mails, smtpIds } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';
import { startWiretap } from '../support/wiretap.ts';
import { oneDovecot, World } from '../support/world.ts';

const COUNT = 60;

describe('a worker that lost its lease', { skip: serversAvailable() ?? false }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(2);
  });
  after(() => pop3.stop());

  for (const [what, user, olderReplica] of [
    ['frozen past its lease', 'u1', false],
    ['frozen while Redis fell back to an older replica', 'u2', true],
  ] as const) {
    test(what, async (t) => {
      const world = await World.open({ owner: t, pop3, user, hook: { concurrency: 2 }, inbox: { concurrency: 2 } });
      const clock = await Clock.of(world.mailferry);
      const tap = await startWiretap(pop3.port, t);
      await world.mailferry.configure(
        world.config({ account: { port: tap.port }, hook: { concurrency: 2 }, inbox: { concurrency: 2 } }),
      );
      const sent = mails('lease', COUNT);
      await world.put(sent);
      // Commands by connection: each worker has its own.
      const commands: { connection: number; line: string }[] = [];
      tap.watch(({ direction, text, connection }) => {
        if (direction === 'toServer') for (const line of text.split('\r\n')) commands.push({ connection, line });
        return 'pass';
      });
      const first = world.start();
      await until(() => world.hook.requests.length >= 8, { interval: 1, timeout: 20_000 });
      assert.ok(first.child.kill('SIGSTOP'));
      const frozen = commands.at(-1)?.connection;
      // Its lease runs out; with an older replica, its token is not known either.
      await sleep(100);
      await clock.advance(31_000);
      await world.expireLeases();
      if (olderReplica) await world.redis.del('mailferry:{isp}:fence');

      const second = world.start();
      await world.pollNow();
      await until(async () => (await pop3.count(user)) === 0, { timeout: 60_000, what: second.noise, interval: 200 });
      const atThaw = { hook: world.hook.requests.length, inbox: world.inbox.messages.length };
      const ledger = async (): Promise<unknown> => await world.redis.hgetall('mailferry:{isp}:open');
      await until(() => second.logged('polled').length > 0);
      const before_ = await ledger();
      const sentBefore = commands.length;
      first.child.kill('SIGCONT');
      await first.says('poll failed');
      await sleep(300);

      const after_ = commands.slice(sentBefore).filter(({ connection }) => connection === frozen);
      assert.deepEqual(
        after_.filter(({ line }) => /^(DELE|QUIT)/.test(line)),
        [],
        'deletes nothing',
      );
      // What was being sent when it froze may end; nothing is begun.
      assert.ok(world.hook.requests.length - atThaw.hook <= 2, 'begins no request');
      assert.ok(world.inbox.messages.length - atThaw.inbox <= 2, 'begins no mail transaction');
      assert.deepEqual(await ledger(), before_, 'writes nothing');
      assertNothingLost(sent, [], hookIds(world.hook), smtpIds(world.inbox));
      if (!olderReplica) assertRepeatsFlagged(world, world.log);
      assert.equal(await first.stop(), 0, first.noise);
      assert.equal(await second.stop(), 0, second.noise);
    });
  }
});
