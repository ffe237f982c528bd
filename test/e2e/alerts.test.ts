// Alerts from the real program: what needs a person arrives once, over all workers, and so does that it is over.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { simpleParser } from 'mailparser';
import { Clock } from '../support/clock.ts';
import type { RunningWorker } from '../support/mailferry.ts';
import { mails } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import type { SmtpSink } from '../support/smtp-sink.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';
import type { Options } from '../support/world.ts';

const ACCOUNT = { user: 'jane', password: 'secret' };

interface Scene {
  readonly pop3: Pop3Server;
  readonly world: World;
  /** Where alerts go, and no mail. */
  readonly person: SmtpSink;
}

async function scene(t: TestContext, alerts: Options = {}): Promise<Scene> {
  const pop3 = await startPop3Server({}, t);
  const person = await startSmtpSink({ keep: true });
  t.after(() => person.close());
  const world = await World.open({ owner: t, pop3: pop3 as never });
  const config = world.config({ account: ACCOUNT });
  await world.mailferry.configure({
    ...config,
    alerts: { deliverTo: ['person'], after: '1s', ...alerts },
    destinations: {
      ...(config['destinations'] as Options),
      person: {
        type: 'smtp',
        host: '127.0.0.1',
        port: person.port,
        security: 'none',
        to: ['ops@example.com'],
        from: 'ferry@example.com',
      },
    },
  });
  return { pop3, world, person };
}

async function subjects({ messages }: SmtpSink): Promise<string[]> {
  return await Promise.all(messages.map(async ({ bytes }) => (await simpleParser(bytes ?? '')).subject ?? ''));
}

/** Looks that say nothing go on all the time: waits for some of them. */
async function someLooks(world: World): Promise<void> {
  const looks = async (): Promise<number> =>
    Number((await world.redis.info('commandstats')).match(/cmdstat_hgetall:calls=(\d+)/)?.[1] ?? 0);
  const before = await looks();
  await until(async () => (await looks()) >= before + 4, { timeout: 20_000, what: 'four looks' });
}

function gone(worker: RunningWorker): unknown[] {
  return worker.logged('alert given up');
}

describe('alerts', { skip: redisAvailable() ?? false, concurrency: 3 }, () => {
  test('a refused login: one mail from two workers, and one when it works again', { timeout: 90_000 }, async (t) => {
    const { pop3, world, person } = await scene(t);
    pop3.drop().secret = 'changed';
    const workers = [world.start(), world.start()];
    await person.arrived(1);
    const [message] = person.messages;
    assert.equal(message?.from, '', 'null reverse-path');
    assert.deepEqual(message.to, ['ops@example.com']);
    const mail = await simpleParser(message.bytes ?? '');
    assert.equal(mail.subject, '[mailferry] account isp needs a person');
    assert.equal(mail.from?.value[0]?.address, 'ferry@example.com');
    assert.equal(mail.headers.get('auto-submitted'), 'auto-generated');
    assert.match(mail.text ?? '', /account isp: .*\n {2}since 20.*\n {2}.*password/);
    await someLooks(world);
    assert.equal(person.messages.length, 1);

    pop3.drop().secret = 'secret';
    await world.mailferry.run('sync', 'isp');
    await person.arrived(2);
    assert.deepEqual((await subjects(person))[1], '[mailferry] account isp: over');
    await someLooks(world);
    assert.equal(person.messages.length, 2);
    for (const worker of workers) assert.equal(await worker.stop(), 0, worker.noise);
  });

  test(
    'a destination that is gone is disabled until a worker starts anew; then what it took is told too',
    { timeout: 90_000 },
    async (t) => {
      const { pop3, world, person } = await scene(t, { after: '10s' });
      const clock = await Clock.of(world.mailferry);
      world.inbox.when({ stage: 'rcpt', action: { reply: [550, '5.1.1 no such user'] } });
      const lift = world.hook.when({ action: { status: 410, body: 'moved away' } });
      pop3.drop().add(...mails('bad', 3).map(({ octets }) => octets));
      const worker = world.start();
      await until(() => person.messages.length > 0, { timeout: 20_000, what: worker.noise });
      const said = await Promise.all(person.messages.map(async ({ bytes }) => (await simpleParser(bytes ?? '')).text));
      assert.match(said.join(''), /destination hook: wants no mail any more, and is disabled: HTTP 410: moved away/);
      assert.equal(pop3.drop().messages.length, 3, 'all of it stays on the server');
      assert.ok(world.hook.requests.length <= 10, 'no more than were under way');
      const before = world.hook.requests.length;
      await world.pollNow();
      await until(() => worker.logged('polled').length > 1);
      assert.equal(world.hook.requests.length, before, 'it is not asked again');
      await worker.stop();

      // It is back, and so is the worker: what waited is delivered, and what was rejected needs a person.
      lift();
      await clock.advance(60_000);
      const second = world.start();
      await until(() => world.hook.accepted.length === 3, { timeout: 20_000, what: second.noise });
      await until(async () => (await subjects(person)).some((each) => /destination hook: over/.test(each)), {
        timeout: 30_000,
      });
      const all = await Promise.all(person.messages.map(async ({ bytes }) => (await simpleParser(bytes ?? '')).text));
      assert.match(all.join(''), /account isp: 3 messages are quarantined/);
      await second.stop();
    },
  );

  test('a ledger that is gone: told at once, and nothing is delivered again', { timeout: 90_000 }, async (t) => {
    const { pop3, world, person } = await scene(t, { after: '10s' });
    pop3.drop().add(...mails('kept', 2).map(({ octets }) => octets));
    await world.mailferry.run('sync');
    assert.equal(world.hook.accepted.length, 2);
    await world.redis.flushall();
    const worker = world.start();
    await person.arrived(1);
    assert.match(
      (await simpleParser(person.messages[0]?.bytes ?? '')).text ?? '',
      /polled before, but its ledger is empty[^]*mailferry resume isp deliver/,
    );
    assert.equal(world.hook.accepted.length, 2);
    await worker.stop();
  });

  test('to a webhook: the payload of any mail', { timeout: 90_000 }, async (t) => {
    const { pop3, world } = await scene(t, { deliverTo: ['hook'] });
    pop3.drop().secret = 'changed';
    const worker = world.start();
    await world.hook.arrived(1);
    const [request] = world.hook.accepted;
    assert.equal(request?.headers['content-type'], 'message/rfc822');
    assert.equal(request.headers['x-mailferry-account'], 'mailferry');
    assert.match(String(request.headers['webhook-id']), /^alert_/);
    assert.match(request.body?.toString() ?? '', /^Subject: \[mailferry\] account isp needs a person\r$/m);
    await worker.stop();
  });

  test(
    'that cannot be delivered: tried again, given up in the end, and never told of',
    { timeout: 120_000 },
    async (t) => {
      const { pop3, world, person } = await scene(t);
      person.when({ stage: 'end', action: { reply: [451, '4.3.0 not now'] } });
      pop3.drop().secret = 'changed';
      const worker = world.start();
      await until(() => worker.logged('alert not delivered').length >= 3, { timeout: 30_000, what: worker.noise });
      assert.equal(worker.logged('alert').length, 1, 'one alert, and none about it');
      assert.deepEqual(gone(worker), []);
      await worker.stop();
    },
  );

  test('whose only destination is the paused one: the log says so', { timeout: 90_000 }, async (t) => {
    const { pop3, world } = await scene(t, { deliverTo: ['inbox'] });
    world.inbox.when({ stage: 'connect', action: { reply: [554, 'no service'] } });
    pop3.drop().add(...mails('wait', 5).map(({ octets }) => octets));
    const worker = world.start();
    const line = await worker.says('alert not delivered: every destination for alerts is paused itself', 40_000);
    assert.match(String(line['subject']), /destination inbox/);
    await worker.stop();
  });
});
