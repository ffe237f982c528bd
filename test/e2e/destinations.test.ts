// A destination that is down or refuses us, seen by two real workers: it is asked by one of them, mail for it is not retrieved
// meanwhile, nothing is quarantined for a wrong password, and all of it arrives once that is put right.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Clock } from '../support/clock.ts';
import type { HttpAction } from '../support/http-sink.ts';
import { hookIds, mails, smtpIds } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';
import type { Options } from '../support/world.ts';

const HOUR = 3_600_000;

/** The config of a world with one account for each user, bound for `deliverTo` only. */
function configOf(world: World, users: readonly string[], deliverTo: string, destination: Options): Options {
  const base = world.config(deliverTo === 'hook' ? { hook: destination } : { inbox: destination });
  const { isp } = base['accounts'] as Record<string, Options>;
  const accounts = users.map((user) => [user, { ...isp, user, password: 'secret', deliverTo: [deliverTo] }]);
  return { ...base, accounts: Object.fromEntries(accounts) as Options };
}

function left(pop3: Pop3Server, users: readonly string[]): number {
  return users.reduce((sum, user) => sum + pop3.drop(user).messages.length, 0);
}

describe('destinations that do not work', { skip: redisAvailable() ?? false, concurrency: 2 }, () => {
  test('after a pause one delivery of one of two workers goes first', { timeout: 120_000 }, async (t) => {
    const users = ['ann', 'bob', 'cid', 'dora'];
    const pop3 = await startPop3Server({ users: Object.fromEntries(users.map((user) => [user, 'secret'])) }, t);
    const world = await World.open({ owner: t, pop3: pop3 as never });
    const clock = await Clock.of(world.mailferry);
    await world.mailferry.configure(configOf(world, users, 'hook', { concurrency: 2 }));
    for (const user of users) pop3.drop(user).add(...mails(user, 30).map(({ octets }) => octets));
    let phase: 'down' | 'probe' | 'up' = 'down';
    let probes = 0;
    let release: (() => void) | undefined;
    world.hook.when({
      action: async (): Promise<HttpAction> => {
        if (phase === 'up') return { status: 200 };
        if (phase === 'down') return { status: 503 };
        probes += 1;
        await new Promise<void>((resolve) => (release = resolve));
        return { status: 200 };
      },
    });
    const workers = [world.start(), world.start()];
    const paused = (): number => world.log.filter(({ msg }) => msg === 'destination paused').length;
    await until(() => paused() > 0, { timeout: 20_000, what: 'a pause' });
    // What was under way at either worker when the pause began has ended once its sessions have.
    const soFar = new Map(workers.map((worker) => [worker, worker.logged('polled').length]));
    await until(
      async () => {
        for (const user of users) await world.pollNow(user);
        return workers.every((worker) => worker.logged('polled').length >= (soFar.get(worker) ?? 0) + 4);
      },
      { timeout: 30_000, interval: 500, what: 'polls of both workers' },
    );
    phase = 'probe';
    // Both workers poll all accounts all the time, and wait for the one answer.
    await until(() => release !== undefined, { timeout: 40_000, what: 'a probe' });
    const retrieved = pop3.count(/^RETR/);
    const polled = (): number => world.log.filter(({ msg }) => msg === 'polled').length;
    for (let round = 0; round < 4; round++) {
      const before = polled();
      for (const user of users) await world.pollNow(user);
      await until(() => polled() >= before + users.length - 1, { timeout: 20_000, what: 'polls of both workers' });
    }
    for (const worker of workers) assert.ok(worker.logged('polled').length > 2, 'both workers were at it');
    assert.equal(probes, 1, 'one probe over both workers');
    const more = pop3.count(/^RETR/) - retrieved;
    t.diagnostic(`${more} retrieved meanwhile`);
    assert.ok(more <= 8, `${more} retrieved while the destination was probed`);
    phase = 'up';
    release?.();
    await until(() => world.log.some(({ msg }) => msg === 'destination works again'), { timeout: 10_000 });
    await clock.advance(60_000);
    await until(
      async () => {
        for (const user of users) await world.pollNow(user);
        return left(pop3, users) === 0;
      },
      { timeout: 60_000, interval: 1000, what: 'all delivered' },
    );
    assert.equal(new Set(hookIds(world.hook)).size, 120);
    assert.equal(world.hook.accepted.length, 120, 'none twice');
    for (const worker of workers) assert.equal(await worker.stop(), 0, worker.noise);
  });

  for (const kind of ['webhook', 'smtp'] as const) {
    test(
      `a wrong ${kind === 'smtp' ? 'password' : 'token'} (${kind}): nothing is quarantined, and few are refused`,
      { timeout: 120_000 },
      async (t) => {
        const users = ['ann'];
        const pop3 = await startPop3Server({ users: { ann: 'secret' } }, t);
        const world = await World.open({ owner: t, pop3: pop3 as never });
        const clock = await Clock.of(world.mailferry);
        const secret = join(world.mailferry.dir, 'secret');
        await writeFile(secret, 'wrong\n', { mode: 0o600 });
        const submission = await startSmtpSink({ auth: { user: 'me', password: 'right' } });
        t.after(() => submission.close());
        let refused = 0;
        world.hook.when({
          if: ({ headers }) => headers.authorization !== 'Bearer right',
          action: () => {
            refused += 1;
            return Promise.resolve({ status: 401, body: 'bad token' });
          },
        });
        submission.when({
          stage: 'auth',
          action: () => {
            refused += 1;
            return Promise.resolve(undefined);
          },
        });
        await world.mailferry.configure(
          kind === 'webhook'
            ? configOf(world, users, 'hook', { concurrency: 4, auth: { bearer: { file: secret } } })
            : configOf(world, users, 'inbox', {
                port: submission.port,
                concurrency: 4,
                auth: { user: 'me', password: { file: secret } },
              }),
        );
        pop3.drop('ann').add(...mails(kind, 300).map(({ octets }) => octets));
        const worker = world.start();
        const pause = await worker.says('destination paused');
        assert.ok(Date.parse(String(pause['until'])) >= Date.now() + 60_000, 'asked again slowly');
        assert.match(String(pause['said']), kind === 'webhook' ? /HTTP 401/ : /535/);
        await worker.says('polled');
        const retrieved = pop3.count(/^RETR/);
        await world.pollNow('ann');
        await until(() => worker.logged('polled').length > 2, { timeout: 20_000 });
        assert.equal(pop3.count(/^RETR/), retrieved, 'mail bound only for it is not retrieved');
        assert.ok(refused <= 8, `${refused} refused`);
        assert.equal(pop3.drop('ann').messages.length, 300);
        const { stderr } = await world.mailferry.run('status');
        assert.match(stderr, /^destination (hook|inbox) is paused after .*(HTTP 401|535).*tried again in /m);
        assert.match(stderr, /correct the config/);
        assert.deepEqual(worker.logged('message quarantined: it stays on the server'), []);

        await writeFile(secret, 'right\n', { mode: 0o600 });
        await clock.advance(7 * HOUR);
        await world.pollNow('ann');
        await until(() => pop3.drop('ann').messages.length === 0, { timeout: 40_000, what: worker.noise });
        assert.equal((kind === 'webhook' ? hookIds(world.hook) : smtpIds(submission)).length, 300, 'none twice');
        assert.ok(worker.logged('destination works again').length === 1);
        assert.equal(await worker.stop(), 0, worker.noise);
      },
    );
  }
});
