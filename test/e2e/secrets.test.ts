// A canary in the place of every secret, servers that repeat what they were told, and failures everywhere: afterwards no
// canary is in the log, in Redis, on the disk, in any command's output, on a page, or in the list of processes.

import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { freePort } from '../support/ports.ts';
import { mails } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';

const SECRETS = {
  pop3: 'canary-pop3-Zq81',
  wrongPop3: 'canary-wrong-Zq82',
  proxy: 'canary-proxy-Zq83',
  smtp: 'canary-smtp-Zq84',
  bearer: 'canary-bearer-Zq85',
  path: 'canary-path-Zq86-4f9a27',
  header: 'canary-header-Zq87',
  basic: 'canary-basic-Zq88',
  http: 'canary-http-Zq89',
  redis: 'canary-redis-Zq90',
  command: 'canary-command-Zq91',
} as const;
const SIGNING = `whsec_${Buffer.from('canary-signing-secret-of-32-octet').toString('base64')}`;

test('no secret leaves the process', { skip: redisAvailable() ?? false, timeout: 120_000 }, async (t) => {
  const pop3 = await startPop3Server({ users: { jane: SECRETS.pop3, joe: SECRETS.pop3, ann: SECRETS.command } }, t);
  // Servers that are badly behaved: they say what they heard.
  pop3.rule({ on: /^PASS canary-wrong/, reply: `-ERR no mailbox for joe with ${SECRETS.wrongPop3}` });
  const world = await World.open({ owner: t, pop3: pop3 as never });
  await world.redis.config('SET', 'requirepass', SECRETS.redis);
  const closed = await startSmtpSink({ auth: { user: 'me@example.com', password: SECRETS.smtp } });
  t.after(() => closed.close());
  closed.when({ stage: 'auth', action: { reply: [535, `5.7.8 wrong: ${SECRETS.smtp}`] } });
  world.hook.when({
    if: ({ path }) => path.includes('canary'),
    action: { status: 403, body: `not with ${SECRETS.bearer} and ${SECRETS.header} at ${SECRETS.path}` },
  });
  const httpPort = await freePort();
  const { mailferry } = world;
  await writeFile(join(mailferry.dir, 'smtp'), `${SECRETS.smtp}\n`, { mode: 0o600 });
  const base = {
    host: '127.0.0.1',
    port: pop3.port,
    security: 'none',
    every: '10s',
    timeout: '2s',
    user: 'jane',
    password: SECRETS.pop3,
  };
  const hook = { type: 'webhook', allowPrivate: true, timeout: '5s' };
  await mailferry.configure({
    redis: { url: { env: 'REDIS_URL' } },
    http: { listen: `127.0.0.1:${String(httpPort)}`, token: SECRETS.http },
    destinations: {
      fine: { ...hook, url: world.hook.url, secret: SIGNING },
      refusing: {
        ...hook,
        url: `${world.hook.url}/${SECRETS.path}?token=${SECRETS.path}`,
        auth: { bearer: SECRETS.bearer },
        headers: { 'X-Token': SECRETS.header },
      },
      away: {
        ...hook,
        url: `http://127.0.0.1:${String(await freePort())}/${SECRETS.path}`,
        auth: { user: 'x', password: SECRETS.basic },
      },
      closed: {
        type: 'smtp',
        host: '127.0.0.1',
        port: closed.port,
        security: 'none',
        auth: { user: 'me@example.com', password: { file: join(mailferry.dir, 'smtp') } },
        to: ['me@example.com'],
      },
    },
    accounts: {
      jane: { ...base, deliverTo: ['fine', 'refusing', 'away', 'closed'] },
      joe: { ...base, user: 'joe', password: SECRETS.wrongPop3, deliverTo: ['fine'] },
      ann: { ...base, user: 'ann', password: { command: ['printf', SECRETS.command] }, deliverTo: ['fine'] },
      proxied: {
        ...base,
        proxy: `socks5://someone:${SECRETS.proxy}@127.0.0.1:${String(await freePort())}`,
        deliverTo: ['fine'],
      },
    },
  });
  mailferry.env['REDIS_URL'] = `redis://:${SECRETS.redis}@127.0.0.1:${String(world.redisServer?.port)}/0`;
  for (const user of ['jane', 'ann']) pop3.drop(user).add(...mails(user, 2).map(({ octets }) => octets));

  const worker = world.start();
  await until(() => worker.logged('poll failed').length >= 2, { timeout: 20_000, what: worker.noise });
  await until(() => worker.logged('polled').length >= 2, { timeout: 20_000, what: worker.noise });
  const found: string[] = [];
  const search = (place: string, text: string): void => {
    const forms = [...Object.values(SECRETS), SIGNING].flatMap((secret) => [
      secret,
      Buffer.from(secret).toString('base64').replaceAll('=', ''),
    ]);
    for (const form of forms) {
      const at = text.indexOf(form);
      if (at >= 0) found.push(`${place}: ${text.slice(Math.max(0, at - 120), at + 60)}`);
    }
  };

  for (const pid of await processesOf(worker.child.pid ?? 0)) search(`ps of ${pid}`, await readProc(pid, 'cmdline'));
  for (const path of ['status', 'metrics', 'health', '']) {
    const response = await fetch(`http://127.0.0.1:${String(httpPort)}/${path}`, {
      headers: { authorization: `Bearer ${SECRETS.http}` },
    });
    search(`page ${path}`, await response.text());
  }
  for (const words of [
    ['status'],
    ['status', '--json'],
    ['messages', 'list', 'jane', '--all'],
    ['check'],
    ['check', '--json'],
    ['log'],
    ['health'],
  ]) {
    const { stdout, stderr } = await mailferry.run(...words);
    search(words.join(' '), stdout + stderr);
  }
  const listed = await mailferry.json<{ uniqueId: string }[]>('messages', 'list', 'jane');
  assert.equal(listed.length, 2);
  const shown = await mailferry.run('messages', 'show', 'jane', ...listed.map(({ uniqueId }) => uniqueId));
  search('messages show', shown.stdout + shown.stderr);
  const synced = await mailferry.run('sync');
  search('sync', synced.stdout + synced.stderr);
  assert.equal(await worker.stop(), 0, worker.noise);
  search('log', JSON.stringify(worker.lines) + worker.noise);
  for (const [key, value] of await dump(world)) search(`redis ${key}`, value);
  for (const entry of await readdir(mailferry.dataDir, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) search(entry.name, await readFile(join(entry.parentPath, entry.name), 'latin1'));
  }
  assert.deepEqual(found, []);
});

/** Every key of every kind, values as text. */
async function dump({ redis }: World): Promise<[key: string, value: string][]> {
  const all: [string, string][] = [];
  for (const key of await redis.keys('*')) {
    const type = await redis.type(key);
    const value =
      type === 'hash'
        ? await redis.hgetall(key)
        : type === 'stream'
          ? await redis.xrange(key, '-', '+')
          : type === 'zset'
            ? await redis.zrange(key, '0', '-1')
            : type === 'list'
              ? await redis.lrange(key, 0, -1)
              : type === 'set'
                ? await redis.smembers(key)
                : await redis.get(key);
    all.push([key, key + JSON.stringify(value)]);
  }
  assert.ok(all.length > 5, 'there is something to look at');
  return all;
}

async function readProc(pid: string, file: string): Promise<string> {
  return await readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => '');
}

/** A process and its children. */
async function processesOf(pid: number): Promise<string[]> {
  const found = [String(pid)];
  for (const name of await readdir('/proc')) {
    if (/^\d+$/.test(name) && new RegExp(`^PPid:\\t${String(pid)}$`, 'm').test(await readProc(name, 'status')))
      found.push(name);
  }
  return found;
}
