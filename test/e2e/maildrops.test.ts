// What real and broken POP3 servers do, and a whole run makes of it: one bad message costs itself alone, half an answer
// counts for nothing, and the server's wishes are heard. The real process against the scriptable server.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Clock } from '../support/clock.ts';
import { startHttpSink } from '../support/http-sink.ts';
import type { HttpSink } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';
import { hookIds, idOf, mails, pollNow } from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server, Pop3ServerOptions } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { serversAvailable, startServer } from '../support/servers.ts';
import type { Owner } from '../support/temp.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';

interface Place {
  readonly server: Pop3Server;
  readonly hook: HttpSink;
  readonly mailferry: Mailferry;
  /** Four messages in the maildrop of jane, of 3000 octets. */
  readonly mail: readonly TestMail[];
}

async function placeFor(t: Owner, account: object, options: Pop3ServerOptions = {}): Promise<Place> {
  const server = await startPop3Server({ users: { jane: 'secret', joe: 'secret' }, ...options }, t);
  const hook = await startHttpSink();
  t.after(() => hook.close());
  const mail = mails('mail', 4, 3000);
  server.drop().add(...mail.map(({ octets }) => octets));
  const login = { host: server.host, port: server.port, security: 'none', password: 'secret', deliverTo: ['hook'] };
  const mailferry = await Mailferry.create(t, {
    destinations: { hook: { type: 'webhook', url: hook.url, allowPrivate: true } },
    accounts: { jane: { ...login, user: 'jane', ...account }, joe: { ...login, user: 'joe' } },
  });
  t.after(() => mailferry.endRedis());
  return { server, hook, mailferry, mail };
}

const left = (server: Pop3Server, user = 'jane'): string[] =>
  server.drop(user).messages.map(({ octets }) => idOf(octets));
const idsOf = (mail: readonly TestMail[]): string[] => mail.map(({ id }) => id);

describe('one bad message', { skip: redisAvailable() ?? false, timeout: 60_000, concurrency: 2 }, () => {
  for (const [what, rule] of Object.entries({
    'that the server cannot read': { on: /^RETR 2$/, reply: '-ERR [SYS/PERM] Could not read message file' },
    'of which +OK gives a piece': { on: /^RETR 2$/, raw: '+OK\r\nSubject: piece\r\n\r\n.\r\n' },
    'of which +OK gives nothing': { on: /^RETR 2$/, raw: '+OK\r\n.\r\n' },
  })) {
    test(`${what} stays, undelivered; the others go`, async (t) => {
      const { server, hook, mailferry, mail } = await placeFor(t, {});
      const heal = server.rule(rule);
      assert.equal((await mailferry.run('sync', 'jane')).code, 1);
      const bad = mail[1]?.id ?? '';
      assert.deepEqual(left(server), [bad]);
      assert.deepEqual(
        hookIds(hook).toSorted(),
        idsOf(mail).filter((id) => id !== bad),
      );
      heal();
    });
  }

  test('whose DELE is refused stays, and is not delivered again', async (t) => {
    const { server, hook, mailferry, mail } = await placeFor(t, {});
    const heal = server.rule({ on: /^DELE 2$/, reply: '-ERR not this one' });
    await mailferry.run('sync', 'jane');
    assert.deepEqual(left(server), [mail[1]?.id]);
    heal();
    assert.equal((await mailferry.run('sync', 'jane')).code, 0);
    assert.deepEqual(left(server), []);
    assert.deepEqual(hookIds(hook).toSorted(), idsOf(mail));
  });
});

describe('half an answer', { skip: redisAvailable() ?? false, timeout: 60_000, concurrency: 2 }, () => {
  test('a message that is cut off is neither delivered nor deleted, and comes whole at the next poll', async (t) => {
    const { server, hook, mailferry, mail } = await placeFor(t, {});
    server.rule({ on: /^RETR 3$/, times: 1, cutAfter: 2000 });
    assert.notEqual((await mailferry.run('sync', 'jane')).code, 0);
    assert(!hookIds(hook).includes(mail[2]?.id ?? ''));
    assert(left(server).includes(mail[2]?.id ?? ''));
    assert.equal((await mailferry.run('sync', 'jane')).code, 0);
    assert.deepEqual(left(server), []);
    assert.deepEqual(hook.accepted.map(({ sha256 }) => sha256).toSorted(), mail.map(({ sha256 }) => sha256).toSorted());
  });

  test('a list that breaks off, and one that is empty once: nothing is forgotten, so nothing comes again', async (t) => {
    const { server, hook, mailferry, mail } = await placeFor(t, { retention: 'keep' });
    assert.equal((await mailferry.run('sync', 'jane')).code, 0);
    // new mail, so that the poll asks for more than STAT: for the whole list, or for its end
    server.drop().add('Subject: new\r\n\r\nx\r\n');
    server.rule({ on: /^UIDL/, times: 1, cutAfter: 5 });
    assert.notEqual((await mailferry.run('sync', 'jane')).code, 0);
    const heal = [
      server.rule({ on: /^(UIDL|LIST)$/, raw: '+OK\r\n.\r\n' }),
      server.rule({ on: /^STAT$/, reply: '+OK 0 0' }),
    ];
    for (const poll of [1, 2, 3]) assert.equal((await mailferry.run('sync', 'jane')).code, 0, `poll ${String(poll)}`);
    for (const each of heal) each();
    assert.equal((await mailferry.run('sync', 'jane')).code, 0);
    assert.equal(hook.accepted.length, mail.length + 1);
    assert.deepEqual(
      hookIds(hook)
        .filter((id) => id !== '')
        .toSorted(),
      idsOf(mail),
    );
  });
});

describe('what servers say', { skip: redisAvailable() ?? false, timeout: 60_000, concurrency: 2 }, () => {
  test('LOGIN-DELAY holds the next poll back, after a good login and after a refused one', async (t) => {
    const { server, mailferry } = await placeFor(t, {}, { loginDelay: 900 });
    const wait = async (): Promise<number> => {
      const accounts = await mailferry.json<{ account: string; next: number }[]>('status');
      return (accounts.find(({ account }) => account === 'jane')?.next ?? 0) - Date.now();
    };
    assert.equal((await mailferry.run('sync', 'jane')).code, 0);
    const good = await wait();
    assert(good > 800_000 && good <= 900_000, String(good));
    const early = await mailferry.run('sync', 'jane');
    assert.match(early.stdout + early.stderr, /LOGIN-DELAY/);
    assert.equal(server.sessions.length, 2);
    const refused = await wait();
    assert(refused > good - 60_000 && refused > 800_000 && refused <= 900_000, String(refused));
  });

  for (const { loginDelay, sessions } of [{ sessions: 2 }, { loginDelay: 900, sessions: 1 }]) {
    const where = loginDelay === undefined ? 'ends' : 'goes on where logins are rare';
    test(`a session that has lasted for five minutes ${where}, and all is delivered once`, async (t) => {
      const { server, hook, mailferry, mail } = await placeFor(t, {}, { ...(loginDelay && { loginDelay }) });
      const more = mails('more', 300, 100);
      server.drop().add(...more.map(({ octets }) => octets));
      const clock = await Clock.of(mailferry);
      hook.when({
        times: 1,
        async action() {
          await clock.advance(5 * 60_000);
          return undefined;
        },
      });
      const { code, stderr } = await mailferry.run('sync', 'jane');
      assert.equal(code, 0, stderr);
      assert.deepEqual(left(server), []);
      assert.deepEqual(hookIds(hook).toSorted(), idsOf([...mail, ...more]).toSorted());
      assert.equal(server.sessions.length, sessions);
    });
  }

  test('[UTF8], by a server that does not announce UTF8: the next session of the worker says it (RFC 6856 §5)', async (t) => {
    const shy = { utf8: 'demanded', capabilities: () => ['USER', 'UIDL', 'TOP'] } as const;
    const { server, hook, mailferry, mail } = await placeFor(t, { every: '10s' }, shy);
    const clock = await Clock.of(mailferry);
    await using worker = mailferry.start();
    const failed = await worker.says('poll failed');
    assert.match(String(failed['reason']), /\[UTF8\]/);
    await clock.advance(60_000);
    await pollNow(join(mailferry.dataDir, 'redis/redis.sock'), 'jane');
    await until(() => left(server).length === 0, { timeout: 30_000, what: `an empty maildrop; ${worker.noise}` });
    assert.deepEqual(hookIds(hook).toSorted(), idsOf(mail));
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('unique-ids that two accounts share are those of different messages', async (t) => {
    const { server, hook, mailferry, mail } = await placeFor(t, {});
    const others = mails('joe', 4, 3000);
    server.drop('joe').add(...others.map(({ octets }) => octets));
    const ids = (user: string): string[] => server.drop(user).messages.map(({ uniqueId }) => uniqueId);
    assert.deepEqual(ids('jane'), ids('joe'));
    assert.equal((await mailferry.run('sync')).code, 0);
    assert.deepEqual(hookIds(hook).toSorted(), idsOf([...others, ...mail]).toSorted());
    assert.deepEqual([...left(server), ...left(server, 'joe')], []);
  });
});

test(
  'Mailutils, which adds fields as it likes and changes sizes: what is kept is delivered once',
  { skip: serversAvailable() ?? false, timeout: 60_000 },
  async (t) => {
    await using pop3 = await startServer('mailutils', { users: 1 });
    const world = await World.open({ owner: t, pop3, account: { retention: 'keep' } });
    const sent: TestMail[] = [];
    for (const round of [1, 2, 3]) {
      const more = mails(`round${String(round)}`, 3);
      await world.put(more);
      sent.push(...more);
      const { code, stderr } = await world.mailferry.run('sync');
      assert.equal(code, 0, stderr);
      assert.deepEqual(hookIds(world.hook).toSorted(), idsOf(sent).toSorted());
    }
    assert.equal(await pop3.count('u1'), 9);
  },
);
