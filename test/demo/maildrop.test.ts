/** The sandbox maildrop, command by command over a raw connection. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { Maildrop } from '../../src/demo/maildrop.ts';
import { MaildropSession } from '../../src/demo/maildrop-session.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { until } from '../support/wait.ts';
import { Dialogue } from './dialogue.ts';

assertNoLeaks();

const FIRST = 'Subject: one\r\n\r\n.\r\n..two\r\nthree\r\n';
const MESSAGES = [
  { uniqueId: 'a', octets: Buffer.from(FIRST) },
  { uniqueId: 'b', octets: Buffer.from('Subject: two\r\n\r\nno end') },
];
const SIZES = [FIRST.length, 22];

async function opened(): Promise<Maildrop & AsyncDisposable> {
  const maildrop = await Maildrop.open(MESSAGES, { user: 'jane', password: 'two words' });
  return Object.assign(maildrop, { [Symbol.asyncDispose]: async () => await maildrop.close() });
}

async function loggedIn(maildrop: Maildrop): Promise<Dialogue> {
  const dialogue = await Dialogue.open(maildrop.port);
  assert.match(await dialogue.heard('\r\n'), /^\+OK /);
  assert.match(await dialogue.line('user jane'), /^\+OK/);
  assert.match(await dialogue.line('PASS two words'), /^\+OK 2 messages/);
  return dialogue;
}

describe('the sandbox maildrop', () => {
  test('says what it can do, before and after login', async () => {
    await using maildrop = await opened();
    await using dialogue = await loggedIn(maildrop);
    const capabilities = (await dialogue.ask('CAPA\r\n', '.\r\n')).split('\r\n');
    for (const name of ['TOP', 'UIDL', 'PIPELINING', 'USER', 'RESP-CODES'])
      assert.ok(capabilities.includes(name), name);
  });

  test('lets nobody in with a wrong word, and nothing be done before login', async () => {
    await using maildrop = await opened();
    await using dialogue = await Dialogue.open(maildrop.port);
    await dialogue.heard('\r\n');
    for (const command of ['STAT', 'LIST', 'RETR 1', 'DELE 1', 'PASS two words', 'USER', 'AUTH PLAIN'])
      assert.match(await dialogue.line(command), /^-ERR/, command);
    await dialogue.line('USER jane');
    assert.match(await dialogue.line('PASS wrong'), /^-ERR \[AUTH\]/);
    assert.match(await dialogue.line('PASS two words'), /^-ERR/, 'USER is needed again');
  });

  test('lists, shows and dot-stuffs', async () => {
    await using maildrop = await opened();
    await using dialogue = await loggedIn(maildrop);
    const [first = 0, second = 0] = SIZES;
    assert.equal(await dialogue.line('STAT'), `+OK 2 ${first + second}`);
    assert.equal(await dialogue.line('LIST 2'), `+OK 2 ${second}`);
    assert.equal(await dialogue.line('UIDL 1'), '+OK 1 a');
    assert.match(await dialogue.ask('UIDL\r\n', '\r\n.\r\n'), /^\+OK [^\r]*\r\n1 a\r\n2 b\r\n\.\r\n$/);
    assert.match(await dialogue.ask('LIST\r\n', '\r\n.\r\n'), new RegExp(`\r\n1 ${first}\r\n2 ${second}\r\n`));
    assert.equal(
      await dialogue.ask('RETR 1\r\n', 'three\r\n.\r\n'),
      `+OK ${first} octets\r\nSubject: one\r\n\r\n..\r\n...two\r\nthree\r\n.\r\n`,
    );
    assert.match(await dialogue.ask('RETR 2\r\n', '\r\n.\r\n'), /\r\nno end\r\n\.\r\n$/);
    assert.equal(await dialogue.ask('TOP 1 0\r\n', '\r\n.\r\n'), '+OK\r\nSubject: one\r\n\r\n.\r\n');
    assert.equal(await dialogue.ask('TOP 1 2\r\n', 'two\r\n.\r\n'), '+OK\r\nSubject: one\r\n\r\n..\r\n...two\r\n.\r\n');
  });

  test('refuses what makes no sense, and goes on', async () => {
    await using maildrop = await opened();
    await using dialogue = await loggedIn(maildrop);
    for (const command of [
      '',
      'RETR',
      'RETR 0',
      'RETR 3',
      'RETR x',
      'RETR 1 2',
      'TOP 1',
      'DELE -1',
      'STAT 1',
      'XYZ',
      'USER jane',
    ])
      assert.match(await dialogue.line(command), /^-ERR/, command);
    assert.equal(await dialogue.line('NOOP'), '+OK');
  });

  test('answers pipelined commands in their order', async () => {
    await using maildrop = await opened();
    await using dialogue = await loggedIn(maildrop);
    assert.equal(
      await dialogue.ask('UIDL 2\r\nUIDL 1\r\nUIDL 9\r\nNOOP\r\n', '+OK\r\n'),
      '+OK 2 b\r\n+OK 1 a\r\n-ERR no such message\r\n+OK\r\n',
    );
  });

  test('deletes at QUIT, and not when the connection is cut', async () => {
    await using maildrop = await opened();
    const cut = await loggedIn(maildrop);
    assert.match(await cut.line('DELE 1'), /^\+OK/);
    assert.match(await cut.line('DELE 1'), /^-ERR/);
    assert.match(await cut.line('RETR 1'), /^-ERR/);
    assert.equal(await cut.line('STAT'), '+OK 1 22');
    await cut.drop();
    assert.equal(maildrop.messages.length, 2);

    // the server may hear of the end a little later
    const again = await until(async () => await loggedIn(maildrop));
    await again.line('DELE 1');
    assert.match(await again.line('RSET'), /^\+OK 2 messages/);
    await again.line('DELE 2');
    assert.equal(maildrop.messages.length, 2, 'not before QUIT');
    assert.match(await again.line('QUIT'), /^\+OK 1 deleted/);
    await again.ended();
    assert.deepEqual(
      maildrop.messages.map(({ uniqueId }) => uniqueId),
      ['a'],
    );
  });

  test('lets one session in at a time', async () => {
    await using maildrop = await opened();
    await using _first = await loggedIn(maildrop);
    await using second = await Dialogue.open(maildrop.port);
    await second.heard('\r\n');
    await second.line('USER jane');
    assert.match(await second.line('PASS two words'), /^-ERR \[IN-USE\]/);
  });

  test('hangs up on a line without end', async () => {
    await using maildrop = await opened();
    await using dialogue = await loggedIn(maildrop);
    assert.match(await dialogue.ask('x'.repeat(300), '\r\n'), /^-ERR/);
    await dialogue.ended();
  });

  test('what RETR gives is the message, whatever its octets', () => {
    const octets = fc.array(fc.constantFrom('\r\n', '.', '\r', '\n', 'a', '\u00ff', '\0'), { maxLength: 30 });
    fc.assert(
      fc.property(octets, (parts) => {
        const message = { uniqueId: 'a', octets: Buffer.from(`${parts.join('')}\r\n`, 'latin1') };
        const session = new MaildropSession({
          isOwner: () => true,
          lock: () => ({ messages: [message], release: () => undefined }),
          retrieved: () => undefined,
          update: () => undefined,
        });
        session.answer('USER u');
        session.answer('PASS p');
        const answer = session.answer('RETR 1').toString('latin1');
        const body = answer.slice(answer.indexOf('\r\n'));
        assert.ok(body.endsWith('\r\n.\r\n'));
        assert.equal(body.indexOf('\r\n.\r\n'), body.length - 5, 'one end');
        assert.equal(body.slice(2, -3).replace(/(^|\r\n)\.\./g, '$1.'), message.octets.toString('latin1'));
      }),
    );
  });
});
