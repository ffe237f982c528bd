// What a person can see and do: the audit trail, the message as it lies on its server, another destination, reversed addresses.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { srsForward } from '../../src/delivery/srs.ts';
import { Lease } from '../../src/store/lease.ts';
import { Clock } from '../support/clock.ts';
import { startHttpSink } from '../support/http-sink.ts';
import type { HttpSink } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';
import { sha256 } from '../support/pop3-maildrop.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { startRedis } from '../support/redis.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import type { SmtpAction, SmtpSink } from '../support/smtp-sink.ts';
import { until } from '../support/wait.ts';

const GOOD = 'Message-ID: <good@b.example>\r\nSubject: good\r\n\r\nbody\r\n';
const BAD = 'Message-ID: <bad@b.example>\r\nSubject: bad \x1b[31m\r\nX-Odd: \xff\r\n\r\n.body\r\n';

const DAY = 86_400_000;

interface Scene {
  readonly pop3: Pop3Server;
  readonly inbox: SmtpSink;
  readonly hook: HttpSink;
  readonly mailferry: Mailferry;
}

/** Two messages: `inbox` refuses the second, which is quarantined. `archive` is no account's destination. */
async function scene(t: TestContext, history = {}): Promise<Scene> {
  const pop3 = await startPop3Server({}, t);
  const inbox = await startSmtpSink();
  t.after(() => inbox.close());
  const hook = await startHttpSink();
  t.after(() => hook.close());
  const port = inbox.port;
  const srs = { domain: 'ferry.example', secret: 'a secret of ours' };
  const mailferry = await Mailferry.create(t, {
    ...history,
    destinations: {
      inbox: { type: 'smtp', host: '127.0.0.1', port, security: 'none', to: ['me@b.example'], from: 'srs', srs },
      archive: { type: 'webhook', url: hook.url, allowPrivate: true },
    },
    accounts: {
      isp: {
        host: '127.0.0.1',
        port: pop3.port,
        security: 'none',
        user: 'jane',
        password: 'secret',
        deliverTo: ['inbox'],
        retention: 'delete',
        firstPoll: 'deliver',
      },
    },
  });
  pop3.drop().add({ octets: GOOD, uniqueId: 'good' }, { octets: BAD, uniqueId: 'bad' });
  inbox.when({ stage: 'end', if: ({ head }) => head.includes('bad'), action: { reply: [554, '5.7.1 no\x1b[31m'] } });
  assert.equal((await mailferry.run('sync')).code, 1);
  return { pop3, inbox, hook, mailferry };
}

suite('what a person sees and does', { concurrency: 2 }, () => {
  test('the audit trail: each step of each message, for people and for programs', async (t) => {
    const { mailferry, inbox } = await scene(t);
    const { stdout } = await mailferry.run('log');
    const steps = (id: string): string[] =>
      stdout
        .split('\n')
        .filter((line) => line.includes(`  isp  ${id}  `))
        .map((line) => line.split('  ')[3] ?? '');
    assert.equal(inbox.messages.length, 1);
    const [seen, retrieved, delivered, deleted] = steps('good');
    assert.match(seen ?? '', /^seen, \d+ octets$/);
    assert.equal(retrieved, `retrieved, ${String(GOOD.length)} octets, SHA-256 ${sha256(Buffer.from(GOOD))}`);
    assert.match(delivered ?? '', /^delivered to inbox: 250 /, "the destination's own words");
    assert.equal(deleted, 'deleted on the server');
    const bad = steps('bad');
    assert.match(bad.at(-2) ?? '', /^rejected by inbox: 554 5\.7\.1 no/);
    assert.match(bad.at(-1) ?? '', /^quarantined: inbox: 554/);
    assert(!stdout.includes('\x1b'), 'nothing that moves a cursor');

    const lines = (await mailferry.run('log', 'isp', '--json', '--message', 'good', '--since', '1h')).stdout;
    const events = lines
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      events.map(({ event }) => event),
      ['seen', 'retrieved', 'delivered', 'deleted'],
    );
    assert(events.every(({ account, uniqueId }) => account === 'isp' && uniqueId === 'good'));
    assert.equal((await mailferry.run('log', '--since', '2030-01-01')).stdout, '');
    assert.equal((await mailferry.run('log', '--since', 'soon')).code, 2);
    assert.equal((await mailferry.run('log', 'nobody')).code, 2);

    const follower = mailferry.spawn(['log', '--follow', '--since', '1s']);
    let told = '';
    follower.stdout?.on('data', (chunk: Buffer) => (told += chunk.toString()));
    const ended = new Promise((resolve) => follower.once('exit', resolve));
    // It keeps the embedded Redis alive, so that what it has read up to now is certain once it answers.
    assert.equal((await mailferry.run('messages', 'discard', 'isp', 'bad')).code, 0);
    await until(() => told.includes('discarded by a person'), { timeout: 20_000, what: 'the follower' });
    follower.kill('SIGINT');
    assert.equal(await ended, 0);
  });

  test('the trail is capped', async (t) => {
    const { mailferry, pop3 } = await scene(t, { history: { events: 100, keep: '1h' } });
    pop3.drop().add(...Array.from({ length: 120 }, (_, number) => `Message-ID: <${String(number)}@x>\r\n\r\n.\r\n`));
    await mailferry.run('sync');
    const { stdout } = await mailferry.run('log');
    const count = stdout.trim().split('\n').length;
    assert(count >= 100 && count < 300, `${String(count)} of some 480 events`);
  });

  test('the message as it lies on its server; its header; its history', async (t) => {
    const { mailferry, pop3 } = await scene(t);
    const raw = await mailferry.run('messages', 'show', 'isp', 'bad', '--raw');
    assert.equal(raw.code, 0, raw.stderr);
    assert.equal(Buffer.from(raw.stdout).includes('Subject: bad'), true);
    assert.match(raw.stdout, /\r\n\r\n\.body\r\n$/, 'dots and line ends as they are');
    const retrieved = pop3.count(/^RETR/);
    const headers = await mailferry.run('messages', 'show', 'isp', 'bad', '--headers');
    assert.match(headers.stdout, /^Subject: bad \\x1b\[31m$/m);
    assert.equal(pop3.count(/^RETR/), retrieved, 'a header is fetched by TOP');
    const [told] = JSON.parse(
      (await mailferry.run('messages', 'show', 'isp', 'bad', '--headers', '--json')).stdout,
    ) as {
      header: { name: string }[];
    }[];
    assert.deepEqual(
      told?.header.map(({ name }) => name),
      ['Message-ID', 'Subject', 'X-Odd'],
    );
    assert.match((await mailferry.run('messages', 'show', 'isp', 'bad')).stdout, /history\n.*seen/);
    assert.deepEqual(pop3.drop().committed, ['good'], 'looking deletes nothing');

    pop3.drop().messages = [];
    const gone = await mailferry.run('messages', 'show', 'isp', 'bad', '--raw');
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /is not on its server/);
    assert.equal((await mailferry.run('messages', 'show', 'isp', 'nothing', '--raw')).code, 1);
    assert.equal((await mailferry.run('messages', 'show', 'isp', '--raw')).code, 2);
    assert.equal((await mailferry.run('messages', 'list', 'isp', '--state', 'odd')).code, 2);
    assert.match((await mailferry.run('messages', 'list', 'isp', '--state', 'quarantined')).stdout, /^bad /m);
    assert.equal((await mailferry.run('messages', 'list', 'isp', '--state', 'skipped')).stdout, 'nothing waits here\n');
  });

  test('what waits for a person is said by every run; options that would do nothing are refused', async (t) => {
    const { mailferry } = await scene(t);
    const again = await mailferry.run('sync');
    assert.deepEqual([again.code, /waiting, .*: 1 quarantined: see/.test(again.stdout)], [1, true], again.stdout);
    for (const words of [
      ['discard', 'isp', 'bad', '--to', 'archive'],
      ['discard', '--all', '--to', 'archive'],
      ['retry', 'isp', 'bad', '--raw'],
      ['retry', 'isp', 'bad', '--all'],
      ['list', 'isp', 'bad'],
      ['show', 'isp', 'bad', '--all'],
    ]) {
      const { code, stderr } = await mailferry.run('messages', ...words);
      assert.equal(code, 2, `${words.join(' ')}: ${stderr}`);
    }
    assert.match(
      (await mailferry.run('messages', 'list', 'isp')).stdout,
      /^bad .* quarantined /m,
      'nothing was discarded',
    );
    assert.equal((await mailferry.run('messages', 'discard', 'isp', 'bad')).code, 0);
    const nothing = await mailferry.run('messages', 'retry', 'isp', '--all');
    assert.deepEqual([nothing.code, nothing.stdout], [0, 'isp has nothing in quarantine: nothing changed\n']);
    assert.equal((await mailferry.run('sync')).code, 0);
  });

  test('a sync says what it waits for where the worker that polled the account has been killed', async (t) => {
    const redis = await startRedis();
    t.after(() => redis.stop());
    const { mailferry } = await scene(t, { redis: { socket: redis.socket } });
    const connection = new Redis(redis.socket);
    assert(await Lease.acquire(connection, 'isp', { leaseTime: 12_000 }), 'nobody held it');
    connection.disconnect();
    const { code, stderr } = await mailferry.run('sync');
    assert.deepEqual([code, stderr.match(/isp: another worker polls it, or one that died/g)?.length], [1, 1], stderr);
  });

  test('of several messages with one unique-id none is guessed', async (t) => {
    const { mailferry, pop3 } = await scene(t);
    const other = BAD.replace('<bad@', '<bad2@');
    pop3.drop().add({ octets: other, uniqueId: 'bad' });
    assert.equal((await mailferry.run('sync')).code, 1);
    const known = (await mailferry.run('messages', 'show', 'isp', 'bad')).stdout;
    const signs = [...known.matchAll(/^ {2}fingerprint {2}(\S+)$/gm)].map(([, sign]) => sign ?? '');
    assert.equal(new Set(signs).size, 2, known);
    for (const words of [
      ['show', 'isp', 'bad', '--raw'],
      ['discard', 'isp', 'bad'],
      ['deliver', 'isp', 'bad', '--to', 'archive'],
    ]) {
      const { code, stderr } = await mailferry.run('messages', ...words);
      assert.equal(code, 2, words.join(' '));
      assert.match(stderr, /2 messages have the unique-id bad; choose one with --fingerprint: /);
    }
    const raws = new Map<string, string>();
    for (const sign of signs)
      raws.set((await mailferry.run('messages', 'show', 'isp', 'bad', '--raw', '--fingerprint', sign)).stdout, sign);
    const second = [...raws].find(([raw]) => raw.includes('<bad2@'))?.[1] ?? '';
    assert.equal(raws.size, 2);
    assert.equal(
      (await mailferry.run('messages', 'discard', 'isp', 'bad', '--fingerprint', second.slice(0, 8))).code,
      0,
    );
    assert.equal((await mailferry.run('sync')).code, 1, 'the first still waits');
    assert.equal(pop3.drop().messages.length, 1);
    assert(pop3.drop().messages[0]?.octets.includes('<bad@'));
  });

  test('given up, the fallback has its own time; and so has what a person tries again', async (t) => {
    const pop3 = await startPop3Server({}, t);
    const hook = await startHttpSink();
    t.after(() => hook.close());
    const smtp = { type: 'smtp', host: '127.0.0.1', security: 'none', from: 'me@b.example' };
    const [first, second] = [await startSmtpSink(), await startSmtpSink()];
    t.after(() => Promise.all([first.close(), second.close()]));
    const mailferry = await Mailferry.create(t, {
      destinations: {
        first: { ...smtp, port: first.port, to: ['me@b.example'] },
        second: { ...smtp, port: second.port, to: ['me@b.example'] },
      },
      accounts: {
        isp: {
          host: '127.0.0.1',
          port: pop3.port,
          security: 'none',
          user: 'jane',
          password: 'secret',
          deliverTo: [{ to: 'first', fallback: 'second' }],
          retention: 'delete',
          firstPoll: 'deliver',
          giveUpAfter: '2d',
        },
      },
    });
    const clock = await Clock.of(mailferry);
    const later: SmtpAction = { reply: [451, '4.3.0 later'] };
    const lifts = [first, second].map((sink) => sink.when({ stage: 'end', action: later }));
    pop3.drop().add({ octets: GOOD, uniqueId: 'good' });
    const records = async (): Promise<Record<string, [state: string, attempt: number]>> => {
      const [entry] = JSON.parse((await mailferry.run('messages', 'list', 'isp', '--json')).stdout) as {
        state: string;
        deliveries: Record<string, { state: string; attempt: number }>;
      }[];
      return Object.fromEntries([
        ['', [entry?.state ?? '', 0]],
        ...Object.entries(entry?.deliveries ?? {}).map(
          ([name, { state, attempt }]) => [name, [state, attempt]] as const,
        ),
      ]) as Record<string, [string, number]>;
    };
    await mailferry.run('sync');
    assert.deepEqual(await records(), { '': ['open', 0], first: ['deferred', 1] });
    await clock.advance(2.1 * DAY);
    await mailferry.run('sync');
    assert.deepEqual(await records(), { '': ['open', 0], first: ['rejected', 2], second: ['deferred', 1] });
    await clock.advance(DAY);
    await mailferry.run('sync');
    assert.deepEqual((await records())['second'], ['deferred', 2], 'not given up with the first');
    await clock.advance(2 * DAY);
    await mailferry.run('sync');
    assert.deepEqual((await records())[''], ['quarantined', 0]);

    await mailferry.run('messages', 'retry', 'isp', 'good');
    await mailferry.run('sync');
    assert.deepEqual(await records(), { '': ['open', 0], first: ['deferred', 3], second: ['deferred', 3] });
    for (const lift of lifts) lift();
    await clock.advance(DAY);
    assert.equal((await mailferry.run('sync')).code, 0);
    assert.equal(first.messages.length, 1);
    assert.deepEqual(pop3.drop().committed, ['good']);
  });

  test('the follower of the log survives a Redis that goes away and comes back', async (t) => {
    const redis = await startRedis({ args: ['--appendonly', 'yes'] });
    t.after(() => redis.stop());
    const { mailferry } = await scene(t, { redis: { socket: redis.socket } });
    const follower = mailferry.spawn(['log', '--follow', '--since', '1s']);
    let [told, warned] = ['', ''];
    follower.stdout?.on('data', (chunk: Buffer) => (told += chunk.toString()));
    follower.stderr?.on('data', (chunk: Buffer) => (warned += chunk.toString()));
    t.after(() => follower.kill('SIGKILL'));
    const ended = new Promise((resolve) => follower.once('exit', resolve));
    await until(async () => (await mailferry.run('messages', 'retry', 'isp', 'bad')).code === 0, { timeout: 20_000 });
    await until(() => told.includes('released by a person'), { timeout: 20_000, what: 'the follower' });
    await redis.kill9();
    await until(() => warned.includes('waiting for it'), { timeout: 30_000, what: 'a word about Redis' });
    await redis.restart();
    await until(() => warned.includes('Redis is back'), { timeout: 30_000, what: 'a word about Redis' });
    assert.equal((await mailferry.run('sync')).code, 1);
    await until(() => told.includes('quarantined'), { timeout: 20_000, what: 'what happened since' });
    follower.kill('SIGINT');
    assert.equal(await ended, 0);
  });

  test('delivered to another destination instead, once, and deleted then', async (t) => {
    const { mailferry, pop3, hook, inbox } = await scene(t);
    const wrong = await mailferry.run('messages', 'deliver', 'isp', 'bad', '--to', 'nowhere');
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /no destination "nowhere".*inbox, archive/);
    assert.equal((await mailferry.run('messages', 'deliver', 'isp', 'bad')).code, 2, '--to is missing');
    assert.equal(
      (await mailferry.run('messages', 'deliver', 'isp', 'good', '--to', 'archive')).code,
      1,
      'not quarantined',
    );

    hook.when({ times: 1, action: { status: 503 } });
    assert.equal((await mailferry.run('messages', 'deliver', 'isp', 'bad', '--to', 'archive')).code, 0);
    assert.equal((await mailferry.run('sync')).code, 1, 'deferred');
    assert.equal(pop3.drop().messages.length, 1, 'not deleted before it is confirmed');
    await until(async () => (await mailferry.run('sync')).code === 0, { timeout: 60_000, what: 'the next attempt' });
    assert.deepEqual(
      hook.accepted.map((request) => request.sha256),
      [sha256(Buffer.from(BAD, 'latin1'))],
    );
    assert.equal(inbox.messages.length, 1, 'the one that refused it is not asked again');
    assert.deepEqual(pop3.drop().committed, ['good', 'bad']);
    assert.match((await mailferry.run('log', '--message', 'bad')).stdout, /sent to archive instead by a person/);
  });

  test('no rule fits: quarantined, told by log and trail, and sent on by a person', async (t) => {
    const pop3 = await startPop3Server({}, t);
    const hook = await startHttpSink();
    t.after(() => hook.close());
    const account = { host: '127.0.0.1', port: pop3.port, security: 'none', user: 'jane', password: 'secret' };
    const archive = { type: 'webhook', url: hook.url, allowPrivate: true };
    const mailferry = await Mailferry.create(t, {
      destinations: { shop: archive, archive },
      accounts: {
        isp: {
          ...account,
          deliverTo: [{ if: { from: '*@shop.example' }, to: 'shop' }],
          retention: 'delete',
          firstPoll: 'deliver',
        },
      },
    });
    pop3.drop().add({ octets: GOOD, uniqueId: 'good' });
    const first = await mailferry.run('sync');
    assert.equal(first.code, 1);
    assert.match(first.stderr, /message quarantined/);
    assert.match((await mailferry.run('log')).stdout, /quarantined: no rule of deliverTo fits/);
    assert.equal((await mailferry.run('messages', 'deliver', 'isp', 'good', '--to', 'archive')).code, 0);
    assert.equal((await mailferry.run('sync')).code, 0);
    assert.equal(hook.accepted.length, 1);
    assert.deepEqual(pop3.drop().committed, ['good']);
  });

  test('an optional destination that is gone holds nothing up', async (t) => {
    const pop3 = await startPop3Server({}, t);
    const [gone, hook] = [await startHttpSink(), await startHttpSink()];
    t.after(() => Promise.all([gone.close(), hook.close()]));
    gone.when({ action: { status: 410 } });
    const mailferry = await Mailferry.create(t, {
      destinations: {
        gone: { type: 'webhook', url: gone.url, allowPrivate: true },
        hook: { type: 'webhook', url: hook.url, allowPrivate: true },
      },
      accounts: {
        isp: {
          host: '127.0.0.1',
          port: pop3.port,
          security: 'none',
          user: 'jane',
          password: 'secret',
          deliverTo: [{ to: 'gone', optional: true }, 'hook'],
          retention: 'delete',
          firstPoll: 'deliver',
        },
      },
    });
    for (const id of ['one', 'two', 'three']) {
      pop3.drop().add({ octets: GOOD.replace('good@', `${id}@`), uniqueId: id });
      await mailferry.run('sync');
    }
    assert.deepEqual(pop3.drop().committed, ['one', 'two', 'three']);
    assert.equal(hook.accepted.length, 3);
  });

  test('sent elsewhere while its own destination is down; and to one that has left the config', async (t) => {
    const { mailferry, hook, inbox, pop3 } = await scene(t);
    inbox.when({ stage: 'connect', action: { reply: [421, '4.3.2 down'] } });
    inbox.dropAll();
    for (let number = 0; number < 6; number += 1) pop3.drop().add(`Message-ID: <down${String(number)}@x>\r\n\r\n.\r\n`);
    await mailferry.run('sync');
    assert.match((await mailferry.run('status')).stderr, /destination inbox is paused/);
    assert.equal((await mailferry.run('messages', 'deliver', 'isp', 'bad', '--to', 'archive')).code, 0);
    const before = pop3.sessions.length;
    await mailferry.run('sync');
    assert(pop3.sessions.length - before <= 3, `${String(pop3.sessions.length - before)} sessions`);
    assert.equal(hook.accepted.length, 1, 'the pause of the one is not the pause of the other');
    assert.deepEqual(pop3.drop().committed, ['good', 'bad']);
  });

  test('a rewritten reverse-path leads back to the sender', async (t) => {
    const { mailferry } = await scene(t);
    const keys = { domain: 'ferry.example', secrets: ['a secret of ours'] };
    const address = srsForward('sender@far.example', keys, new Date());
    assert.equal((await mailferry.run('srs', address)).stdout, 'sender@far.example\n');
    const forged = srsForward('sender@far.example', { ...keys, secrets: ['another'] }, new Date());
    const refused = await mailferry.run('srs', forged);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /wrong signature/);
    assert.match((await mailferry.run('srs', 'me@else.example')).stderr, /no SRS address of ours/);
    assert.equal((await mailferry.run('srs')).code, 2);
  });
});
