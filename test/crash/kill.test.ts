// kill -9 of the worker at random moments of a run: nothing is lost, and what is repeated had been in flight and is flagged.
// CRASH_KILLS sets how often (npm run test:crash: 50), CRASH_SEED the moments.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { corpus, seeded } from '../support/corpus.ts';
import { assertNothingLost, assertRepeatsFlagged, hookIds, idOf, maildropIds, smtpIds } from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import { oneDovecot, World } from '../support/world.ts';
import { until } from '../support/wait.ts';

const KILLS = Number(process.env['CRASH_KILLS'] ?? 8);
/** Deliveries at a time to both destinations together: the defaults of their `concurrency`, and by SMTP one more announced on each connection. */
const IN_FLIGHT = 2 * 5 + 10;
const SEED = Number(process.env['CRASH_SEED'] ?? 1);

test(
  `${String(KILLS)} kills at random moments of a run`,
  { skip: serversAvailable() ?? false, timeout: 60_000 + KILLS * 20_000 },
  async (t) => {
    const random = seeded(SEED);
    await using pop3 = await oneDovecot(1);
    const world = await World.open({ owner: t, pop3 });
    // The first two have no Message-ID to know them by.
    const mail: TestMail[] = corpus(2 + KILLS * 20, 1024 * 1024, SEED)
      .slice(2)
      .map(({ octets, sha256 }) => ({ id: idOf(octets), octets, sha256 }));
    await world.put(mail);

    for (let kill = 0; kill < KILLS; kill += 1) {
      const worker = world.start();
      await world.pollNow();
      const goal = world.hook.requests.length + Math.floor(random() * 30);
      // Some kills come before the first delivery, some after the last.
      await until(() => world.hook.requests.length >= goal || worker.logged('polled').length > 0, {
        interval: 1,
        timeout: 30_000,
        what: `deliveries; noise: ${worker.noise}`,
      });
      await sleep(random() * 20);
      await worker.kill9();
      await world.expireLeases();
      assertNothingLost(mail, await maildropIds(pop3, 'u1'), hookIds(world.hook), smtpIds(world.inbox));
    }

    const last = world.start();
    await world.pollNow();
    await until(async () => (await pop3.count('u1')) === 0, { timeout: 60_000, interval: 200, what: 'empty maildrop' });
    assert.equal(await last.stop(), 0, last.noise);
    assertNothingLost(mail, [], hookIds(world.hook), smtpIds(world.inbox));
    const known = new Set(mail.map(({ sha256 }) => sha256));
    assert.ok(
      world.hook.requests.every(({ sha256 }) => known.has(sha256)),
      'octets at the webhook',
    );
    const repeats = assertRepeatsFlagged(world, world.log);
    const [status] = await world.mailferry.json<{ inDoubt: number; deleted: number }[]>('status');
    t.diagnostic(
      `${String(mail.length)} messages, ${String(KILLS)} kills, ${String(repeats.length)} deliveries repeated`,
    );
    t.diagnostic(`status: ${String(status?.inDoubt)} in doubt`);
    assert.ok((status?.inDoubt ?? 0) <= KILLS * IN_FLIGHT, 'no more in doubt than was on its way at a kill');
    assert.ok((status?.inDoubt ?? 0) >= repeats.reduce((sum, { times }) => sum + times, 0), 'counted by status');
  },
);
