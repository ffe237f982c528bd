// Between the announcement of a message and the moment in which it is durable that it begins: whatever comes then, nothing of the
// message has been sent, and nobody is in doubt.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { mails, smtpIds } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { startWiretap } from '../support/wiretap.ts';
import { oneDovecot, World } from '../support/world.ts';

/** Time in which a program that does not wait would have sent. Milliseconds. */
const ENOUGH = 300;

suite('announced, and not written yet', { skip: serversAvailable() ?? false, timeout: 120_000 }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(3);
  });
  after(() => pop3.stop());

  for (const [index, what] of (['Redis takes its time', 'Redis hangs up', 'killed'] as const).entries()) {
    test(what, async (t) => {
      const user = `u${String(index + 1)}`;
      const world = await World.open({ owner: t, pop3, user });
      const smtp = await startWiretap(world.inbox.port, t);
      const redis = await startWiretap(world.redisServer?.socket ?? '', t);
      await world.mailferry.configure(
        world.config({
          account: { deliverTo: ['inbox'] },
          inbox: { port: smtp.port },
          root: { redis: { url: `redis://127.0.0.1:${String(redis.port)}/0` } },
        }),
      );
      const sent = mails('mail', 3);
      await world.put(sent);
      const child = world.mailferry.spawn(['sync']);
      const exited = once(child, 'exit');
      const announced = Promise.withResolvers<void>();
      smtp.watch(({ direction, text }) => {
        if (direction === 'toClient' && /^354/m.test(text)) announced.resolve();
        return 'pass';
      });
      let early: number | undefined;
      redis.watch(async ({ direction, text }) => {
        // The first write that names the destination is that it begins.
        if (early !== undefined || direction !== 'toServer' || !/evalsha/i.test(text) || !text.includes('inbox'))
          return 'pass';
        await announced.promise;
        await delay(ENOUGH);
        early = world.inbox.messages.length;
        if (what === 'Redis takes its time') return 'pass';
        if (what === 'Redis hangs up') return 'cut';
        child.kill('SIGKILL');
        await exited;
        return 'cut';
      });
      await exited;
      assert.equal(early, 0, 'nothing was sent before that was durable');
      await world.expireLeases();
      const { code, stderr } = await world.mailferry.run('sync');
      assert.equal(code, 0, stderr);
      assert.deepEqual(smtpIds(world.inbox).toSorted(), sent.map(({ id }) => id).toSorted(), 'each once');
      assert.equal(await pop3.count(user), 0);
      const [status] = await world.mailferry.json<{ inDoubt: number }[]>('status');
      assert.equal(status?.inDoubt, 0);
    });
  }
});
