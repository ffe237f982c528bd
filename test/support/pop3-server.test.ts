// The scriptable POP3 server itself, by a bare socket.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { suite, test } from 'node:test';
import { assertNoLeaks } from './leaks.ts';
import { startPop3Server } from './pop3-server.ts';
import type { Pop3Server } from './pop3-server.ts';
import { until } from './wait.ts';

assertNoLeaks();

/** Sends everything at once; all that comes until the server ends the connection. */
async function talk(server: Pop3Server, ...lines: readonly string[]): Promise<string> {
  const socket = connect(server.port, server.host);
  let said = '';
  socket.on('data', (chunk) => (said += chunk.toString('latin1')));
  socket.write(lines.map((line) => `${line}\r\n`).join(''));
  await once(socket, 'end');
  socket.end();
  return said;
}

suite('the scriptable POP3 server', () => {
  test('keeps the rules of RFC 1939, stuffs dots, commits at QUIT', async (context) => {
    const server = await startPop3Server({}, context);
    const drop = server.drop();
    drop.add('A: b\r\n\r\n.\r\n..x\r\nend', { octets: '', uniqueId: 'twin', size: 99 });
    const said = await talk(
      server,
      'USER jane',
      'PASS secret',
      'STAT',
      'UIDL',
      'LIST 2',
      'RETR 1',
      'TOP 1 1',
      'DELE 1',
      'RETR 1',
      'QUIT',
    );
    assert.equal(
      said,
      '+OK ready\r\n+OK\r\n+OK 2 messages\r\n+OK 2 118\r\n+OK\r\n1 uid-000001\r\n2 twin\r\n.\r\n+OK 2 99\r\n' +
        '+OK message follows\r\nA: b\r\n\r\n..\r\n...x\r\nend\r\n.\r\n+OK message follows\r\nA: b\r\n\r\n..\r\n.\r\n' +
        '+OK marked\r\n-ERR no such message\r\n+OK bye\r\n',
    );
    assert.deepEqual(drop.committed, ['uid-000001']);
    assert.equal(drop.messages.length, 1);
    assert.equal(server.sessions[0]?.end, 'quit');
    assert.equal(drop.retrieved.get('uid-000001'), 1);
  });

  test('a rule cuts, commits or not', async (context) => {
    const server = await startPop3Server({ chunk: 1 }, context);
    const drop = server.drop();
    drop.add('one', 'two');
    const remove = server.rule({ on: /^QUIT/, cutAfter: 0 });
    assert.equal(
      await talk(server, 'USER jane', 'PASS secret', 'DELE 1', 'QUIT'),
      '+OK ready\r\n+OK\r\n+OK 2 messages\r\n+OK marked\r\n',
    );
    remove();
    await until(() => !drop.locked);
    assert.deepEqual(drop.committed, []);
    server.rule({ on: /^QUIT/, cutAfter: 2, still: true });
    server.rule({ on: /^RETR/, times: 1, cutAfter: 25 });
    assert.match(await talk(server, 'USER jane', 'PASS secret', 'RETR 1'), /follows\r\none\r$/);
    await until(() => !drop.locked);
    await talk(server, 'USER jane', 'PASS secret', 'DELE 1', 'QUIT');
    assert.deepEqual(drop.committed, ['uid-000001']);
  });

  test('locks and refuses', async (context) => {
    const server = await startPop3Server({ uidl: false }, context);
    server.drop().locked = true;
    assert.match(await talk(server, 'USER jane', 'PASS secret', 'UIDL', 'QUIT'), /-ERR \[IN-USE\].*\r\n-ERR /);
  });
});
