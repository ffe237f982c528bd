// Each real server by itself: starts, takes mail, speaks, survives a crash, stops, and leaves nothing behind.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { readFile } from 'node:fs/promises';
import { accepts } from './ports.ts';
import { POP3_SERVERS, type ServerName, serversAvailable, startServer } from './servers.ts';

const skip = serversAvailable() ?? false;
const MESSAGE = Buffer.from('Subject: one\r\n\r\n.dot\r\nend\r\n');

/** Sends each line when the reply to the one before is there; all that the server said. */
function converse(port: number, lines: readonly string[]): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const replies: string[] = [];
    socket.setTimeout(10_000, () => socket.destroy(new Error(`silence after ${JSON.stringify(replies)}`)));
    socket.on('data', (octets) => {
      replies.push(octets.toString('latin1'));
      const next = lines[replies.length - 1];
      if (next !== undefined) socket.write(`${next}\r\n`);
    });
    socket.once('error', reject);
    socket.once('close', () => {
      resolve(replies);
    });
  });
}

async function greetsInTls(port: number, ca: string): Promise<void> {
  const socket = connectTls({ port, host: '127.0.0.1', servername: 'localhost', ca: await readFile(ca) });
  await new Promise((resolve, reject) => {
    socket.once('data', resolve);
    socket.once('error', reject);
  });
  assert.equal(socket.authorized, true);
  socket.destroy();
}

describe('real servers', { skip, concurrency: 2, timeout: 300_000 }, () => {
  for (const name of [...POP3_SERVERS, 'postfix'] satisfies ServerName[]) {
    test(name, { timeout: 240_000 }, async () => {
      await using server = await startServer(name, { users: 2 });
      assert.equal(await server.count('u1'), 0);
      await server.deliver('u1', [MESSAGE, MESSAGE]);
      assert.equal(await server.count('u1'), 2);
      assert.equal(await server.count('u2'), 0);

      const lines = name === 'postfix' ? ['QUIT'] : ['USER u1', 'PASS p1', 'DELE 1', 'QUIT'];
      const replies = await converse(server.port, lines);
      assert.equal(replies.length, lines.length + 1, JSON.stringify(replies));
      const left = name === 'postfix' ? 2 : 1;
      assert.equal(await server.count('u1'), left);
      await greetsInTls(server.tlsPort, server.ca);

      await server.kill9();
      assert.equal(await accepts(server.port), false);
      await server.restart();
      assert.equal(await server.count('u1'), left, 'the mail is still there');

      await server.stop();
      assert.equal(await accepts(server.port), false);
      assert.equal(existsSync(server.dir), false);
    });
  }

  test('dovecot serves LMTP and OAuth on request', async () => {
    await using server = await startServer('dovecot', { lmtp: true, oauth: true, tls: false });
    assert.equal(server.tlsPort, 0);
    assert.equal(await accepts(server.lmtpPort), true);
    const answer = await fetch(`http://127.0.0.1:${String(server.oauthPort)}/introspect?token=good-u1`);
    assert.deepEqual(await answer.json(), { active: true, username: 'u1' });
    const initial = Buffer.from('user=u1\u0001auth=Bearer good-u1\u0001\u0001').toString('base64');
    const replies = await converse(server.port, [`AUTH XOAUTH2 ${initial}`, 'QUIT']);
    assert.match(replies[1] ?? '', /^\+OK/);
  });

  test('stored gives the octets that were delivered raw', async () => {
    await using server = await startServer('dovecot', { tls: false });
    const messages = [MESSAGE, Buffer.from('Subject: two\n\n\u0000\r\xff', 'latin1')];
    await server.deliver('u1', messages, { raw: true });
    assert.deepEqual(await server.stored('u1'), messages);
    assert.deepEqual(await server.stored('u2'), []);
  });

  test('a server that cannot start says why', async () => {
    await assert.rejects(startServer('dovecot', { env: { EXTRA: 'no_such_setting = 1' } }), /no_such_setting/);
  });
});
