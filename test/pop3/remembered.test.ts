// What one client found out about a server, in the hands of the next.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Pop3Client } from '../../src/pop3/client.ts';
import type { Pop3Options } from '../../src/pop3/client.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { caFile } from '../support/tls.ts';

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

const commands = (server: Pop3Server): readonly string[] => server.sessions.at(-1)?.commands ?? [];

suite('what an earlier client found', () => {
  const lines = (server: Pop3Server): string[] => commands(server).map((line) => line.split(' ')[0] ?? '');

  test('saves two waits, and what is asked along with the first command counts', async (context) => {
    const server = await startPop3Server({}, context);
    server.drop().add('Subject: 1\r\n\r\nbody\r\n');
    const first = await open(server);
    await first.quit();
    assert.deepEqual(lines(server), ['CAPA', 'USER', 'PASS', 'CAPA', 'QUIT']);
    server.behaviour.languages = ['en'];
    const second = await open(server, { remembered: structuredClone(first.remember()) });
    assert.equal((await second.stat()).count, 1);
    assert.equal(second.capabilities.lang, true, 'the server has said so meanwhile');
    await second.quit();
    assert.deepEqual(lines(server), ['USER', 'PASS', 'CAPA', 'STAT', 'QUIT']);
  });

  test('behind STLS too; a server that does not pipeline any more is asked one by one', async (context) => {
    const server = await startPop3Server({ stls: true }, context);
    const first = await open(server, { security: 'starttls' });
    await first.quit();
    server.behaviour.pipelining = 'off';
    const second = await open(server, { security: 'starttls', remembered: first.remember() });
    assert.equal((await second.stat()).count, 0);
    assert.equal(second.remember().afterLogin.pipelining, false);
    await second.quit();
    assert.deepEqual(lines(server), ['STLS', 'USER', 'PASS', 'CAPA', 'STAT', 'QUIT']);
  });

  test('is no reason to take a stripped STLS for an encrypted connection', async (context) => {
    const server = await startPop3Server({ stls: true }, context);
    const first = await open(server, { security: 'starttls' });
    await first.quit();
    server.behaviour.stls = false;
    await assert.rejects(open(server, { security: 'starttls', remembered: first.remember() }), /refuses STLS/);
  });
});
