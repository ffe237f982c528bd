// The client as its users know it, against the scriptable server: TLS by STLS, capabilities, listing, streams, the end by QUIT.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { suite, test } from 'node:test';
import { inspect, promisify } from 'node:util';
import { Pop3Client } from '../../src/pop3/client.ts';
import type { Pop3Options } from '../../src/pop3/client.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { tempDir } from '../support/temp.ts';
import { caFile } from '../support/tls.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const TLS = { caFile, fingerprint: undefined, serverName: undefined, certFile: undefined, keyFile: undefined };

function open(server: Pop3Server, options: Partial<Pop3Options> = {}): Promise<Pop3Client> {
  return Pop3Client.open({
    host: 'localhost',
    port: server.port,
    security: 'none',
    tls: TLS,
    user: 'jane',
    password: () => Promise.resolve('secret'),
    timeout: 5000,
    ...options,
  });
}

async function octetsOf(client: Pop3Client, messageNumber: number): Promise<string> {
  let octets = '';
  await client.retrieve(messageNumber, { write: (piece) => void (octets += piece.toString('latin1')) });
  return octets;
}

const commands = (server: Pop3Server): readonly string[] => server.sessions.at(-1)?.commands ?? [];

test('the example of the docstring runs as it is printed, with nothing else of this project', async (context) => {
  const client = join(import.meta.dirname, '../../src/pop3/client.ts');
  const source = await readFile(client, 'utf8');
  const printed = /@example\n(.*?)\n \*\//s.exec(source)?.[1]?.replaceAll(/^ \* ?/gm, '') ?? assert.fail('no example');
  const server = await startPop3Server({ tls: true }, context);
  const drop = server.drop();
  drop.add('Subject: 1\r\n\r\n.\r\n', 'Subject: 2\r\n\r\n..dots\r\n');
  const folder = await tempDir(context);
  const places = { "'./client.ts'": `'${client}'`, 'pop.example.com': 'localhost', '995': String(server.port) };
  const program = Object.entries(places).reduce((text, [from, to]) => text.replace(from, () => to), printed);
  await writeFile(join(folder, 'example.ts'), program);
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: caFile };
  const { stderr } = await promisify(execFile)(process.execPath, ['example.ts'], { cwd: folder, env, timeout: 30_000 });
  assert.equal(stderr, '');
  assert.equal(await readFile(join(folder, '1.eml'), 'latin1'), 'Subject: 1\r\n\r\n.\r\n');
  assert.equal(await readFile(join(folder, '2.eml'), 'latin1'), 'Subject: 2\r\n\r\n..dots\r\n');
  assert.deepEqual(drop.committed.length, 2);
});

suite('a whole session', () => {
  for (const behaviour of [
    {},
    { tls: true },
    { stls: true },
    { chunk: 1 },
    { pipelining: 'off' as const },
    { pipelining: 'afterLogin' as const },
  ]) {
    test(inspect(behaviour), async (context) => {
      const server = await startPop3Server(behaviour, context);
      const drop = server.drop();
      drop.add('Subject: 1\r\n\r\n.\r\n', { octets: 'Subject: 2\r\n\r\n..dots\r\n', uniqueId: 'two', size: 1 });
      const security = behaviour.tls === true ? 'tls' : behaviour.stls === true ? 'starttls' : 'none';
      const session = await open(server, { security });
      const { entries } = await session.listing();
      assert.deepEqual(entries, [
        { messageNumber: 1, uniqueId: 'uid-000001', size: 17 },
        { messageNumber: 2, uniqueId: 'two', size: 1 },
      ]);
      const texts: string[] = [];
      for (const { messageNumber } of entries) {
        texts.push(await text(session.retrieveStream(messageNumber)));
        await session.delete(messageNumber);
      }
      assert.deepEqual(drop.committed, []);
      await session.quit();
      assert.deepEqual(texts, ['Subject: 1\r\n\r\n.\r\n', 'Subject: 2\r\n\r\n..dots\r\n']);
      assert.deepEqual(drop.committed, ['uid-000001', 'two']);
      assert.equal(session.closed, true);
      assert.equal(server.sessions[0]?.secured, security !== 'none');
    });
  }
});

suite('STLS', () => {
  const starttls = { security: 'starttls' as const };

  test('capabilities are asked before and after TLS, and after the login; what the clear said is forgotten', async (context) => {
    const server = await startPop3Server({ stls: true }, context);
    server.behaviour.capabilities = ({ secured, loggedIn }) =>
      secured ? ['USER', loggedIn ? 'PIPELINING' : 'TOP', 'UIDL'] : ['STLS', 'SASL PLAIN', 'EXPIRE 0', 'PIPELINING'];
    const client = await open(server, starttls);
    assert.deepEqual(commands(server), ['CAPA', 'STLS', 'CAPA', 'USER jane', 'PASS secret', 'CAPA']);
    assert.equal(client.capabilities.expire, undefined);
    assert.equal(client.capabilities.pipelining, true);
    await client.quit();
  });

  for (const [title, options] of Object.entries({
    'is stripped from CAPA': { stls: false },
    'is refused': { stls: true, rules: [{ on: /^STLS/, reply: '-ERR not today' }] },
    'is refused by a server without CAPA': { stls: false, capabilities: () => undefined },
  })) {
    test(`that ${title}: the password stays here`, async (context) => {
      const server = await startPop3Server(options, context);
      let asked = false;
      const password = (): Promise<string> => Promise.resolve(String((asked = true)));
      await assert.rejects(open(server, { ...starttls, password }), { kind: 'policy', scope: 'account' });
      assert.equal(asked, false);
      assert(!commands(server).some((line) => line.startsWith('USER')));
    });
  }

  test('with plain text behind its +OK: nothing is sent any more', async (context) => {
    const server = await startPop3Server({ stls: true }, context);
    server.rule({ on: /^STLS/, append: '+OK injected\r\n' });
    await assert.rejects(open(server, starttls), { kind: 'tls' });
    assert.deepEqual(commands(server), ['CAPA', 'STLS']);
  });

  test('that never shakes hands, or says no word', async (context) => {
    const server = await startPop3Server({ stls: true, rules: [{ on: /^STLS/, reply: '+OK go' }] }, context);
    const began = performance.now();
    await assert.rejects(open(server, { ...starttls, timeout: 300 }), { scope: 'account' });
    server.rule({ on: /^STLS/, stallAfter: 0 });
    await assert.rejects(open(server, { ...starttls, timeout: 300 }), { kind: 'timeout' });
    assert(performance.now() - began < 3000);
  });
});

suite('what a server lacks', () => {
  test('no CAPA, no UIDL, no TOP', async (context) => {
    const server = await startPop3Server({ capabilities: () => undefined, uidl: false, top: false }, context);
    server.drop().add('a\r\n\r\nb\r\n');
    const client = await open(server);
    assert.deepEqual(await client.listing(), {
      entries: [{ messageNumber: 1, uniqueId: undefined, size: 8 }],
      hasUniqueIds: false,
    });
    assert.equal(await client.uniqueId(1), undefined);
    await assert.rejects(client.top(1, 0), { kind: 'refused', scope: 'message' });
    assert.equal(await octetsOf(client, 1), 'a\r\n\r\nb\r\n');
    await client.quit();
  });

  test('STAT that fails behind a good login is the account’s trouble', async (context) => {
    const server = await startPop3Server({ rules: [{ on: /^STAT/, reply: '-ERR [SYS/TEMP] no disk' }] }, context);
    const client = await open(server);
    await assert.rejects(client.stat(), { kind: 'refused', scope: 'account', responseCode: 'SYS/TEMP' });
    client.abort();
  });

  test('STAT without numbers ends the session', async (context) => {
    const server = await startPop3Server({ rules: [{ on: /^STAT/, reply: '+OK many' }] }, context);
    const client = await open(server);
    await assert.rejects(client.stat(), { kind: 'protocol' });
    assert.equal(client.closed, true);
  });
});

suite('retrieveStream', () => {
  const LARGE = `a\r\n\r\n${'x'.repeat(70).concat('\r\n').repeat(60_000)}`;

  test('destroyed early: the session goes on', async (context) => {
    const server = await startPop3Server({}, context);
    server.drop().add(LARGE, 'second\r\n');
    const client = await open(server);
    const stream = client.retrieveStream(1);
    for await (const chunk of stream) {
      assert((chunk as Buffer).length > 0);
      break;
    }
    assert.equal(stream.destroyed, true);
    assert.equal(await octetsOf(client, 2), 'second\r\n');
    await client.quit();
  });

  test('never read: it keeps no more than a few pieces, and the server waits', async (context) => {
    const server = await startPop3Server({}, context);
    server.drop().add(LARGE.repeat(4));
    const client = await open(server, { timeout: 1500 });
    const stream = client.retrieveStream(1);
    await until(() => stream.readableLength > 0);
    await sleep(2000);
    assert(stream.readableLength < 1024 * 1024, String(stream.readableLength));
    // waiting for us is not waiting for the server
    assert.equal(client.closed, false);
    let octets = 0;
    let listeners = 0;
    for await (const chunk of stream) {
      octets += (chunk as Buffer).length;
      listeners = Math.max(listeners, stream.listenerCount('close'));
    }
    assert.equal(octets, LARGE.length * 4);
    assert(listeners < 5, `${String(listeners)} listeners: some for each pause`);
    await client.quit();
  });

  test('whole, and the connection gone while the sink still writes: it counts, and only it', async (context) => {
    const server = await startPop3Server({ rules: [{ on: /^RETR 1/, cutAfter: 1000, still: true }] }, context);
    server.drop().add('a\r\n\r\nb\r\n', 'second\r\n');
    const client = await open(server);
    const pieces: Buffer[] = [];
    const sink = {
      write: async (piece: Buffer): Promise<void> => {
        await until(() => server.open === 0);
        await sleep(50);
        pieces.push(piece);
      },
    };
    const [first, second] = await Promise.allSettled([client.retrieve(1, sink), octetsOf(client, 2)]);
    assert.deepEqual([first.status, second.status], ['fulfilled', 'rejected']);
    assert.equal(Buffer.concat(pieces).toString(), 'a\r\n\r\nb\r\n');
    assert.equal(client.closed, true);
  });

  test('cut before the terminator: it fails, and does not end', async (context) => {
    const server = await startPop3Server({}, context);
    server.drop().add('a\r\n\r\nb\r\n');
    server.rule({ on: /^RETR/, cutAfter: '+OK message follows\r\na\r\n\r\nb\r\n.\r'.length });
    const client = await open(server);
    await assert.rejects(text(client.retrieveStream(1)), { kind: 'closed' });
  });
});

suite('the end', () => {
  test('QUIT that is refused, cut or stalled proves nothing', async (context) => {
    const server = await startPop3Server({}, context);
    const drop = server.drop();
    drop.add('one');
    for (const [rule, kind] of [
      [{ on: /^QUIT/, times: 1, reply: '-ERR some deleted messages not removed' }, 'refused'],
      [{ on: /^QUIT/, times: 1, cutAfter: 0 }, 'closed'],
      [{ on: /^QUIT/, times: 1, cutAfter: 3 }, 'closed'],
      [{ on: /^QUIT/, times: 1, stallAfter: 3 }, 'timeout'],
      [{ on: /^QUIT/, times: 1, resetAfter: 0 }, 'closed'],
    ] as const) {
      const client = await open(server, { timeout: 300 });
      await client.delete(1);
      server.rule(rule);
      await assert.rejects(client.quit(), { kind });
      assert.equal(client.closed, true);
      await until(() => server.open === 0);
      assert.deepEqual(drop.committed, []);
    }
    server.rule({ on: /^QUIT/, cutAfter: 0, still: true });
    const client = await open(server);
    await client.delete(1);
    await assert.rejects(client.quit(), { kind: 'closed' });
    assert.deepEqual(drop.committed, ['uid-000001']);
  });

  test('abort and the signal end everything that waits, at once', async (context) => {
    const server = await startPop3Server({ rules: [{ on: /^RETR/, stallAfter: 20 }] }, context);
    server.drop().add('one', 'two');
    const controller = new AbortController();
    const client = await open(server, { signal: controller.signal });
    const waiting = Promise.allSettled([octetsOf(client, 1), octetsOf(client, 2), client.quit()]);
    controller.abort();
    const reasons = (await waiting).map((one) => one.status === 'rejected' && (one.reason as { kind: string }).kind);
    assert.deepEqual(reasons, ['closed', 'closed', 'closed']);
    await assert.rejects(client.noop(), { kind: 'closed' });
  });

  test('a signal that has aborted before opens nothing', async (context) => {
    const server = await startPop3Server({}, context);
    await assert.rejects(open(server, { signal: AbortSignal.abort() }));
    assert.deepEqual(commands(server), []);
  });
});

suite('UTF8 (RFC 6856)', () => {
  test('is asked for wherever it is offered, before the login and after STLS', async (context) => {
    const server = await startPop3Server({ utf8: 'demanded', stls: true }, context);
    server.drop().add('Subject: \xe4\r\n\r\n');
    const client = await open(server, { security: 'starttls' });
    const sent = commands(server);
    assert.deepEqual(
      sent.filter((line) => /^(STLS|UTF8|USER)/.test(line)),
      ['STLS', 'UTF8', 'USER jane'],
    );
    assert.equal(await octetsOf(client, 1), 'Subject: \xe4\r\n\r\n');
    await client.quit();
  });

  test('is not asked for where it is not offered, or not wanted', async (context) => {
    const server = await startPop3Server({}, context);
    await (await open(server)).quit();
    server.behaviour.utf8 = 'offered';
    await (await open(server, { utf8: false })).quit();
    assert.equal(server.count(/^UTF8/), 0);
  });

  test('refused: the session goes on; what needs it is refused by its code', async (context) => {
    const server = await startPop3Server({ utf8: 'demanded', rules: [{ on: /^UTF8/, reply: '-ERR no' }] }, context);
    server.drop().add('one');
    const client = await open(server);
    await assert.rejects(octetsOf(client, 1), { kind: 'refused', scope: 'message', responseCode: 'UTF8' });
    await client.quit();
  });

  test('LANG', async (context) => {
    const server = await startPop3Server({ languages: ['en', 'es'] }, context);
    const client = await open(server);
    assert.equal(client.capabilities.lang, true);
    await client.language('es');
    await assert.rejects(client.language('xx'), { kind: 'refused' });
    await client.quit();
  });
});

suite('the maildrop changes', () => {
  test('twins, a size that lies, mail that comes meanwhile', async (context) => {
    const server = await startPop3Server({}, context);
    const drop = server.drop();
    let size = 10;
    drop.add({ octets: 'A\r\n', uniqueId: 'same', size: () => (size += 5) }, { octets: 'B\r\n', uniqueId: 'same' });
    const client = await open(server);
    const first = await client.listing();
    drop.add('later');
    const second = await client.listing();
    assert.deepEqual(
      first.entries.map(({ uniqueId }) => uniqueId),
      ['same', 'same'],
    );
    assert.notEqual(first.entries[0]?.size, second.entries[0]?.size);
    assert.equal(second.entries.length, 2);
    assert.deepEqual(await Promise.all([octetsOf(client, 1), octetsOf(client, 2)]), ['A\r\n', 'B\r\n']);
    await client.quit();
  });

  test('a message that is gone does not stop the others', async (context) => {
    const server = await startPop3Server(
      { rules: [{ on: /^(RETR|DELE) 2$/, reply: '-ERR [SYS/PERM] gone' }] },
      context,
    );
    server.drop().add('1\r\n', '2\r\n', '3\r\n');
    const client = await open(server);
    const settled = await Promise.allSettled([1, 2, 3].map((number) => octetsOf(client, number)));
    assert.deepEqual(
      settled.map((one) => (one.status === 'fulfilled' ? one.value : one.status)),
      ['1\r\n', 'rejected', '3\r\n'],
    );
    await Promise.allSettled([1, 2, 3].map((number) => client.delete(number)));
    await client.quit();
    assert.deepEqual(server.drop().committed, ['uid-000001', 'uid-000003']);
  });
});

suite('a server that says EXPIRE 0 (RFC 2449 §6.7)', () => {
  const retrieved = async (server: Pop3Server): Promise<Pop3Client> => {
    server.drop().add('Subject: 1\r\n\r\nx\r\n', 'Subject: 2\r\n\r\nx\r\n');
    const client = await open(server);
    await octetsOf(client, 1);
    return client;
  };

  test('gets no QUIT while something was retrieved that was not marked', async (context) => {
    const server = await startPop3Server({ expireZero: true }, context);
    const client = await retrieved(server);
    await assert.rejects(client.quit(), { kind: 'policy' });
    assert.equal(client.closed, true);
    assert.deepEqual(commands(server).at(-1), 'RETR 1');
    await until(() => server.sessions.at(-1)?.end === 'dropped');
    assert.equal(server.drop().messages.length, 2);
  });

  test('nor once RSET has taken the marks back; nor for a message that was read only for its header', async (context) => {
    const server = await startPop3Server({ expireZero: true }, context);
    const client = await retrieved(server);
    await Promise.all([client.delete(1), client.reset()]);
    await assert.rejects(client.quit(), { kind: 'policy' });
    await until(() => server.open === 0);
    const second = await open(server);
    await octetsOf(second, 1);
    await second.delete(2);
    await assert.rejects(second.quit(), { kind: 'policy' });
    assert.equal(server.drop().messages.length, 2);
  });

  test('gets it when all that was retrieved is marked, when nothing was, and when RETR was refused', async (context) => {
    const server = await startPop3Server({ expireZero: true }, context);
    const client = await retrieved(server);
    await client.delete(1);
    await client.quit();
    assert.equal(server.drop().messages.length, 1);
    const second = await open(server);
    await second.top(1, 0);
    await assert.rejects(octetsOf(second, 99), { kind: 'refused' });
    await second.quit();
    assert.equal(server.drop().messages.length, 1);
  });
});
