// A server that deletes at QUIT whatever was retrieved (RFC 2449 §6.7, EXPIRE 0): nothing goes before it is delivered, and what
// is to be kept is kept. The real process against the scriptable server.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startHttpSink } from '../support/http-sink.ts';
import type { HttpSink } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';
import { hookIds, idOf, mails } from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server, Pop3ServerOptions } from '../support/pop3-server.ts';
import type { Owner } from '../support/temp.ts';

interface Place {
  readonly server: Pop3Server;
  readonly hook: HttpSink;
  readonly mailferry: Mailferry;
  readonly mail: readonly TestMail[];
}

async function placeFor(t: Owner, account: object, options: Pop3ServerOptions = {}): Promise<Place> {
  const server = await startPop3Server({ expireZero: true, ...options }, t);
  const hook = await startHttpSink();
  t.after(() => hook.close());
  const mail = mails('expire', 4);
  server.drop().add(...mail.map(({ octets }) => octets));
  const login = { host: server.host, port: server.port, security: 'none', user: 'jane', password: 'secret' };
  const mailferry = await Mailferry.create(t, {
    destinations: { hook: { type: 'webhook', url: hook.url, allowPrivate: true } },
    accounts: { isp: { ...login, deliverTo: ['hook'], ...account } },
  });
  t.after(() => mailferry.endRedis());
  return { server, hook, mailferry, mail };
}

const left = (server: Pop3Server): string[] => server.drop().messages.map(({ octets }) => idOf(octets));

describe('EXPIRE 0', { timeout: 60_000 }, () => {
  test('all is delivered: one session, with QUIT', async (t) => {
    const { server, hook, mailferry, mail } = await placeFor(t, {});
    const { code, stderr } = await mailferry.run('sync');
    assert.equal(code, 0, stderr);
    assert.deepEqual(
      hookIds(hook).toSorted(),
      mail.map(({ id }) => id),
    );
    assert.deepEqual(left(server), []);
  });

  test('one message is not delivered: no QUIT behind it; the others go by a session that retrieves nothing', async (t) => {
    const { server, hook, mailferry, mail } = await placeFor(t, {});
    const late = mail[1]?.id ?? '';
    const heal = hook.when({
      if: ({ headers }) => String(headers['x-mailferry-unique-id']) === server.drop().messages[1]?.uniqueId,
      action: { status: 422 },
    });
    assert.equal((await mailferry.run('sync')).code, 1);
    assert.equal(server.sessions[0]?.end, 'dropped');
    await mailferry.run('sync');
    assert.deepEqual(left(server), [late], 'only what is not delivered lies there still');
    for (const { commands, end } of server.sessions) {
      if (end === 'quit') assert(!commands.some((line) => line.startsWith('RETR')), commands.join());
    }
    heal();
    await mailferry.run('messages', 'retry', 'isp', '--all');
    await mailferry.run('sync');
    assert.deepEqual(left(server), []);
    assert.deepEqual(
      hookIds(hook).toSorted(),
      mail.map(({ id }) => id),
      'each once',
    );
  });

  test('kept: each delivered once, and all of it stays', async (t) => {
    const { server, hook, mailferry, mail } = await placeFor(t, { retention: 'keep' });
    for (const poll of [1, 2]) {
      const { code, stderr } = await mailferry.run('sync');
      assert.equal(code, 0, stderr);
      assert.equal(hook.accepted.length, mail.length, `poll ${String(poll)}`);
      assert.equal(left(server).length, mail.length);
    }
  });

  test('a dry run that must retrieve to tell messages apart deletes none of them', async (t) => {
    const { server, mailferry, mail } = await placeFor(t, {}, { top: false, uidl: false });
    const { code, stderr } = await mailferry.run('sync', '--dry-run');
    assert.equal(code, 0, stderr);
    assert(server.count(/^RETR/) >= mail.length);
    assert.equal(left(server).length, mail.length);
  });
});
