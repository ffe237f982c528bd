// What goes wrong around a worker: each trouble gets one message that says what to do, stops nothing else, loses nothing,
// and is over by itself once its cause is gone.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Clock } from '../support/clock.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import type { RunningWorker } from '../support/mailferry.ts';
import { mail, mails } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';
import { oneDovecot, World } from '../support/world.ts';

const HOUR = 3_600_000;

describe('trouble', { skip: serversAvailable() ?? false }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(8);
  });
  after(() => pop3.stop());

  test('one bad account, certificate, config entry or destination stops nothing else', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u1' });
    const clock = await Clock.of(world.mailferry);
    const password = join(world.mailferry.dir, 'password');
    await writeFile(password, 'not-this-one\n', { mode: 0o600 });
    const inbox = await startFaultProxy(world.inbox.port, t);
    await inbox.set({ kind: 'refuse' });
    const config = world.config({ inbox: { port: inbox.port } });
    const isp = (config['accounts'] as Record<string, Record<string, unknown>>)['isp'];
    const tls = { port: pop3.tlsPort, security: 'tls', caFile: pop3.ca };
    await world.mailferry.configure({
      ...config,
      accounts: {
        isp,
        'hook-only': { ...isp, user: 'u4', password: 'p4', deliverTo: ['hook'] },
        'wrong-password': { ...isp, user: 'u2', password: { file: password }, deliverTo: ['hook'] },
        'wrong-name': { ...isp, ...tls, serverName: 'mail.example.org', user: 'u3', password: 'p3' },
        'wrong-field': { ...isp, pasword: 'x' },
      },
    });
    await world.put(mails('isp', 3));
    await pop3.deliver('u2', [mail('late').octets]);
    await pop3.deliver('u4', [mail('other').octets]);

    const worker = world.start();
    await until(() => world.hook.accepted.length === 4, { timeout: 20_000, what: `4 at the hook; ${worker.noise}` });
    await until(() => failures(worker, 'wrong-password').length > 0 && failures(worker, 'wrong-name').length > 0);
    const problem = worker.logged('config problem').find(({ problem: text }) => String(text).includes('pasword'));
    assert.ok(problem, 'the unknown field is named');
    assert.match(String(problem['problem']), /mailferry\.yaml:\d+/);
    assert.match(String(problem['remedy']), /password/);
    const [wrongPassword] = failures(worker, 'wrong-password');
    assert.equal(wrongPassword?.['code'], 'pop3.auth');
    assert.match(String(wrongPassword['remedy']), /password/i);
    const [wrongName] = failures(worker, 'wrong-name');
    assert.equal(wrongName?.['code'], 'pop3.tls');
    assert.match(String(wrongName['reason']), /not for mail\.example\.org/);
    assert.equal(wrongName['needsPerson'], true);
    assert.match(String(wrongName['remedy']), /`serverName`/);
    await until(() => worker.logged('delivery deferred').length > 0);
    assert.match(String(worker.logged('delivery deferred')[0]?.['said']), /ECONNREFUSED|refused/i);
    assert.equal(await pop3.count('u1'), 3, 'all of it stays on the server');

    await inbox.set({ kind: 'none' });
    await writeFile(password, 'p2\n', { mode: 0o600 });
    await clock.advance(12 * HOUR);
    await world.pollNow('isp');
    await world.pollNow('wrong-password');
    await until(async () => (await pop3.count('u1')) + (await pop3.count('u2')) === 0, { timeout: 30_000 });
    await worker.says('works again');
    assert.equal(world.inbox.messages.length, 3);
    assert.equal(world.hook.accepted.length, 5);
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('a config that nothing can run with: exit 78 and every problem at its line', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u1' });
    await world.mailferry.configure(world.config({ account: { hots: 'x' }, root: { acounts: {} } }));
    const { code, stderr } = await world.mailferry.run('run');
    assert.equal(code, 78);
    assert.match(stderr, /hots/);
    assert.match(stderr, /acounts/);
    assert.match(stderr, /mailferry\.yaml:\d+/);
  });

  test('Redis down at the start, and again during the run', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u5', redisArgs: ['--appendonly', 'yes'] });
    const { redisServer } = world;
    assert.ok(redisServer);
    await world.put(mails('before', 2));
    await redisServer.kill9();
    const { code, stderr } = await world.mailferry.run('sync');
    assert.equal(code, 69);
    assert.match(stderr, /Redis is out of reach/);

    const worker = world.start();
    const failed = await worker.says('failed');
    assert.equal(failed['code'], 'redis.connect');
    assert.match(String(failed['remedy']), /[Ss]tart it/);
    await redisServer.restart();
    await until(() => world.hook.accepted.length === 2, { timeout: 30_000, what: `delivery; ${worker.noise}` });

    const away = (): unknown[] => worker.logged('redis out of reach: waiting for it, mail waits on its servers');
    const back = (): unknown[] => worker.logged('redis is back');
    await until(async () => (await pop3.count('u5')) === 0, { timeout: 20_000 });
    const troubles = away().length;
    await redisServer.kill9();
    await until(() => away().length === troubles + 1);
    await world.put(mails('meanwhile', 2));
    await redisServer.restart();
    await until(() => back().length === troubles + 1);
    await until(async () => (await pop3.count('u5')) === 0, { timeout: 40_000, what: `delivery; ${worker.noise}` });
    assert.equal(world.hook.accepted.length, 4);
    assert.equal(world.inbox.messages.length, 4);
    assert.equal(away().length, troubles + 1, 'said once');
    assert.deepEqual(bugs(worker), []);

    await redisServer.kill9();
    await until(() => away().length === troubles + 2);
    const began = performance.now();
    await worker.stop();
    assert.ok(performance.now() - began < 10_000, 'ends without Redis too');
  });

  test('the embedded Redis killed -9, between polls and amid one', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u6', redis: 'embedded' });
    await world.put(mails('first', 2));
    const worker = world.start();
    await until(async () => (await pop3.count('u6')) === 0, { timeout: 30_000, what: `delivery; ${worker.noise}` });
    for (const round of ['second', 'third']) {
      await world.put(mails(round, 50));
      if (round === 'third') {
        await world.pollNow();
        await until(() => world.hook.requests.length > 55, { interval: 1 });
      }
      await world.mailferry.endRedis();
      await worker.says('redis is back', 40_000);
      await until(async () => (await pop3.count('u6')) === 0, { timeout: 60_000, what: `delivery; ${worker.noise}` });
    }
    assert.equal(world.hook.accepted.length, 102, 'no repeat');
    assert.equal(world.inbox.messages.length, 102, 'no repeat');
    assert.deepEqual(bugs(worker), []);
    assert.equal(await worker.stop(), 0, worker.noise);
  });
});

function failures(worker: RunningWorker, account: string): Record<string, unknown>[] {
  return worker.logged('poll failed').filter((line) => line['account'] === account);
}

/** What the program says of itself when it meets what it does not know. */
function bugs(worker: RunningWorker): unknown[] {
  return worker.lines.filter(({ msg, code }) => msg === 'unexpected error' || code === 'bug');
}
