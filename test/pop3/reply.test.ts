// Reply lines, capability lines and commands: tables of what servers say and what is made of it.

import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { parseCapabilities } from '../../src/pop3/capabilities.ts';
import { encodeCommand, NO_BODY } from '../../src/pop3/command.ts';
import { Pop3Error } from '../../src/pop3/error.ts';
import { parseNumbered, parseReply, parseStat } from '../../src/pop3/reply.ts';

const REPLIES: readonly [line: string, kind: string | undefined, code: string | undefined, text: string][] = [
  ['+OK', 'ok', undefined, ''],
  ['+OK ', 'ok', undefined, ''],
  ['+ok Hello', 'ok', undefined, 'Hello'],
  ['-ERR', 'err', undefined, ''],
  ['-err no', 'err', undefined, 'no'],
  ['-ERR [IN-USE] Mailbox in use', 'err', 'IN-USE', '[IN-USE] Mailbox in use'],
  ['-ERR [sys/temp] later', 'err', 'SYS/TEMP', '[sys/temp] later'],
  ['-ERR  [AUTH] two blanks', 'err', 'AUTH', ' [AUTH] two blanks'],
  ['-ERR\t[AUTH] tab', 'err', 'AUTH', '[AUTH] tab'],
  ['+OK [X-FUTURE/A/B] fine', 'ok', 'X-FUTURE/A/B', '[X-FUTURE/A/B] fine'],
  ['-ERR lock [IN-USE]', 'err', undefined, 'lock [IN-USE]'],
  ['-ERR []', 'err', undefined, '[]'],
  ['-ERR [not a code]', 'err', undefined, '[not a code]'],
  ['-ERR [/TEMP] x', 'err', undefined, '[/TEMP] x'],
  ['+OK2 3', 'ok', undefined, '2 3'],
  ['* OK IMAP4rev1 ready', undefined, undefined, ''],
  ['220 smtp.example ESMTP', undefined, undefined, ''],
  ['HTTP/1.1 400 Bad Request', undefined, undefined, ''],
  ['', undefined, undefined, ''],
  [' +OK', undefined, undefined, ''],
  ['-ER', undefined, undefined, ''],
];

for (const [line, kind, code, text] of REPLIES) {
  test(`reply: ${JSON.stringify(line)}`, () => {
    const reply = parseReply(Buffer.from(line, 'latin1'));
    assert.equal(reply?.kind, kind);
    if (reply?.kind === 'ok' || reply?.kind === 'err') assert.deepEqual([reply.code, reply.text], [code, text]);
  });
}

test('challenges', () => {
  for (const line of ['+', '+ ']) assert.deepEqual(parseReply(Buffer.from(line)), { kind: 'continue', challenge: '' });
  assert.deepEqual(parseReply(Buffer.from('+ VXNlcm5hbWU6 ')), { kind: 'continue', challenge: 'VXNlcm5hbWU6' });
});

const NUMBERED: readonly [line: string, messageNumber: number | undefined, rest: string][] = [
  ['1 abc', 1, 'abc'],
  ['  12 \t abc def  ', 12, 'abc def'],
  ['3', 3, ''],
  ['4 ', 4, ''],
  ['5 \u00e4\u00ff', 5, '\u00e4\u00ff'],
  ['007 a', 7, 'a'],
  ['0 a', undefined, ''],
  ['-1 a', undefined, ''],
  ['a 1', undefined, ''],
  ['1a b', undefined, ''],
  ['2147483647 a', 2147483647, 'a'],
  ['2147483648 a', undefined, ''],
  ['11111111111 a', undefined, ''],
  ['', undefined, ''],
];

for (const [line, messageNumber, rest] of NUMBERED) {
  test(`list line: ${JSON.stringify(line)}`, () => {
    const expected = messageNumber === undefined ? undefined : { messageNumber, rest };
    assert.deepEqual(parseNumbered(Buffer.from(line, 'latin1')), expected);
  });
}

test('STAT', () => {
  assert.deepEqual(parseStat('2 320'), { count: 2, octets: 320 });
  assert.deepEqual(parseStat(' 2  320 and more'), { count: 2, octets: 320 });
  for (const text of ['', '2', 'two 320', '-1 5', '1 9999999999999999999']) assert.equal(parseStat(text), undefined);
});

test('capabilities of real servers', () => {
  const dovecot = parseCapabilities('CAPA|TOP|UIDL|RESP-CODES|PIPELINING|AUTH-RESP-CODE|STLS|SASL'.split('|'));
  assert.deepEqual([dovecot.pipelining, dovecot.stls, dovecot.authRespCode, dovecot.user], [true, true, true, false]);
  assert.deepEqual(dovecot.sasl, []);
  // Mailutils leaves blanks and a name out.
  const mailutils = parseCapabilities(['TOP', 'USER', 'UIDL', 'EXPIRENEVER', 'EXPIRE7', '5', 'IMPLEMENTATION GNU x 3']);
  assert.deepEqual([mailutils.expire, mailutils.loginDelay, mailutils.uidl], [undefined, undefined, true]);
  assert.equal(mailutils.implementation, 'GNU x 3');
  const courier = parseCapabilities(['SASL PLAIN LOGIN cram-md5', 'LOGIN-DELAY 10', 'UTF8 USER', 'pipelining']);
  assert.deepEqual(courier.sasl, ['PLAIN', 'LOGIN', 'CRAM-MD5']);
  assert.deepEqual(courier.loginDelay, { seconds: 10, perUser: false });
  assert.deepEqual([courier.utf8, courier.utf8User, courier.pipelining], [true, true, true]);
});

test('capabilities: EXPIRE and LOGIN-DELAY in every form', () => {
  const of = (line: string): unknown[] => {
    const { expire, loginDelay } = parseCapabilities([line]);
    return [expire, loginDelay];
  };
  assert.deepEqual(of('EXPIRE 0'), [0, undefined]);
  assert.deepEqual(of('Expire never'), ['never', undefined]);
  assert.deepEqual(of('EXPIRE 30 USER'), [30, undefined]);
  assert.deepEqual(of('EXPIRE soon'), [undefined, undefined]);
  assert.deepEqual(of('LOGIN-DELAY 900 USER'), [undefined, { seconds: 900, perUser: true }]);
  assert.deepEqual(of('LOGIN-DELAY'), [undefined, undefined]);
});

function encode(line: string, isAuth = false): string {
  return encodeCommand({ line, shown: 'PASS [secret]', body: NO_BODY, isAuth });
}

test('commands: one line each, of 255 octets', () => {
  assert.equal(encode('RETR 1'), 'RETR 1\r\n');
  assert.equal(encode(`PASS ${'x'.repeat(248)}`).length, 255);
  assert.throws(() => encode(`PASS ${'x'.repeat(249)}`), { kind: 'policy', message: /255 octets/ });
  assert.throws(() => encode(`PASS ${'\u00e4'.repeat(125)}`), Pop3Error);
  assert.equal(encode(`AUTH XOAUTH2 ${'x'.repeat(4000)}`, true).length, 4015);
  for (const evil of ['a\r\nDELE 1', 'a\nDELE 1', 'a\rb', 'a\0b']) {
    assert.throws(
      () => encode(`PASS ${evil}`),
      (error: Error) => error instanceof Pop3Error && !error.message.includes('DELE'),
    );
  }
  // Cut to Latin-1 this one would be a line end.
  assert(!Buffer.from(encode('PASS a\u010aDELE 1')).subarray(0, -2).includes(0x0a));
});

test('no line whatever makes a parser throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.constantFrom('', '+OK ', '-ERR [', '1 '), (octets, start) => {
      const line = Buffer.concat([Buffer.from(start), octets]);
      parseReply(line);
      parseNumbered(line);
      parseStat(line.toString('latin1'));
      parseCapabilities([line.toString('latin1')]);
    }),
  );
});
