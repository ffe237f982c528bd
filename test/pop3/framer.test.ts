// The framer: every case whole, one octet at a time, cut in two at every place, and with octets left over.

import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { Framer, FramingError, LINE_LIMIT } from '../../src/pop3/framer.ts';
import { stuffed } from '../support/pop3-maildrop.ts';

const LEFT = '+OK the next reply\r\n';

/** Reads one message out of these pieces; undefined if it did not end. */
function read(pieces: readonly Buffer[]): { octets: string; left: string } | undefined {
  const framer = new Framer();
  const given: Buffer[] = [];
  let ended = false;
  framer.startMessage();
  for (const piece of pieces) {
    // What is pushed is the framer's from then on.
    framer.push(Buffer.from(piece));
    if (!ended) ended = framer.readMessage((octets) => given.push(octets));
    if (!ended) assert(framer.pending <= 4, `${framer.pending} octets held back`);
  }
  return ended
    ? { octets: Buffer.concat(given).toString('latin1'), left: framer.peek().toString('latin1') }
    : undefined;
}

function splits(octets: Buffer): Buffer[][] {
  const bytes = Array.from(octets, (_, at) => octets.subarray(at, at + 1));
  const halves = bytes.map((_, at) => [octets.subarray(0, at), octets.subarray(at)]);
  return [[octets], bytes, ...halves];
}

const MESSAGES: Readonly<Record<string, [wire: string, octets: string]>> = {
  'an empty message': ['.\r\n', ''],
  'one line': ['a\r\n.\r\n', 'a\r\n'],
  'an empty line only': ['\r\n.\r\n', '\r\n'],
  'a line of one dot': ['..\r\n.\r\n', '.\r\n'],
  'a line of two dots': ['...\r\n.\r\n', '..\r\n'],
  'any leading dot goes': ['.a\r\nb\r\n.c\r\n.\r\n', 'a\r\nb\r\nc\r\n'],
  'dots inside stay': ['a.\r\n b..\r\n.\r\n', 'a.\r\n b..\r\n'],
  'bare LF before a dot': ['a\n.\r\nb\r\n.\r\n', 'a\n.\r\nb\r\n'],
  'bare CR before a dot': ['a\r.\r\nb\r\n.\r\n', 'a\r.\r\nb\r\n'],
  'dot and bare LF': ['a\r\n.\nb\r\n.\r\n', 'a\r\n\nb\r\n'],
  'dot and bare CR': ['a\r\n.\rb\r\n.\r\n', 'a\r\n\rb\r\n'],
  'dot and CR CR LF': ['a\r\n.\r\r\n.\r\n', 'a\r\n\r\r\n'],
  'CR CR LF at each line': ['a\r\r\nb\r\r\n.\r\n', 'a\r\r\nb\r\r\n'],
  'NUL and 8-bit': ['\0\u00e4\u00ff\r\n.\r\n', '\0\u00e4\u00ff\r\n'],
  'many CRLF': ['\r\n\r\n\r\n.\r\n', '\r\n\r\n\r\n'],
  'CR and CRLF': ['\r\r\r\n.\r\n', '\r\r\r\n'],
  'dot lines in a row': ['..\r\n..\r\n..a\r\n.\r\n', '.\r\n.\r\n.a\r\n'],
};

for (const [name, [wire, octets]] of Object.entries(MESSAGES)) {
  test(`message: ${name}`, () => {
    for (const left of ['', LEFT]) {
      for (const pieces of splits(Buffer.from(wire + left, 'latin1')))
        assert.deepEqual(read(pieces), { octets, left }, JSON.stringify(pieces.map(String)));
    }
    // RFC 1939 §3: nothing short of the terminator ends a message.
    for (const pieces of splits(Buffer.from(wire.slice(0, -1), 'latin1'))) assert.equal(read(pieces), undefined);
  });
}

test('a message comes in one piece a chunk, however many dots it has', () => {
  const framer = new Framer();
  framer.push(Buffer.from(`${'.x\r\n'.repeat(10_000)}.\r\n`));
  const pieces: Buffer[] = [];
  assert(framer.readMessage((piece) => pieces.push(piece)));
  assert.equal(pieces.length, 1);
  assert.equal(pieces[0]?.toString(), 'x\r\n'.repeat(10_000));
});

test('what was given is never changed by what comes behind it, also within one buffer', () => {
  const framer = new Framer();
  const given: Buffer[] = [];
  const take = (piece: Buffer): void => void given.push(piece);
  framer.push(Buffer.from('..a\r\n..b\r\n.\r\n+OK\r\n..c\r\nd\r\n..e\r\n.\r\n+OK\r\n..f'));
  framer.startMessage();
  assert(framer.readMessage(take));
  assert.equal(framer.readLine()?.toString(), '+OK');
  framer.startMessage();
  assert(framer.readMessage(take));
  assert.equal(framer.readLine()?.toString(), '+OK');
  framer.startMessage();
  assert(!framer.readMessage(take));
  framer.push(Buffer.from('g\r\n..h\r\n.\r\n'));
  assert(framer.readMessage(take));
  assert.deepEqual(given.map(String), ['.a\r\n.b\r\n', '.c\r\nd\r\n.e\r\n', '.f', 'g\r\n.h\r\n']);
});

test('reply lines end at CRLF, or at LF alone', () => {
  const wire = Buffer.from('+OK a\r\n-ERR b\n\r\n\n+OK \r c\r\n', 'latin1');
  for (const pieces of splits(wire)) {
    const framer = new Framer();
    const lines: string[] = [];
    for (const piece of pieces) {
      framer.push(piece);
      for (let line = framer.readLine(); line; line = framer.readLine()) lines.push(line.toString('latin1'));
    }
    assert.deepEqual(lines, ['+OK a', '-ERR b', '', '', '+OK \r c']);
    assert.equal(framer.pending, 0);
  }
});

test('a reply line has a limit, a message line has none', () => {
  const framer = new Framer();
  framer.push(Buffer.from(`${'x'.repeat(LINE_LIMIT - 1)}\r\n`));
  assert.equal(framer.readLine()?.length, LINE_LIMIT - 1);
  framer.push(Buffer.alloc(LINE_LIMIT, 'x'));
  assert.equal(framer.readLine(), undefined);
  framer.push(Buffer.from('x'));
  assert.throws(() => framer.readLine(), FramingError);

  const long = Buffer.alloc(1_000_000, 'y');
  const other = new Framer();
  let octets = 0;
  for (const piece of [long, long, Buffer.from('\r\n.\r\n')]) {
    other.push(piece);
    other.readMessage((given) => (octets += given.length));
  }
  assert.equal(octets, 2_000_002);
});

const telling = fc.constantFrom('\r', '\n', '.', 'a', '\0', '\r\n', '\r\n.', '\r\n.\r\n', '.\r\n', '..', '\u00ff');

test('stuff, split and un-stuff is identity', () => {
  fc.assert(
    fc.property(fc.array(telling, { maxLength: 40 }), fc.array(fc.nat(12), { maxLength: 30 }), (parts, cuts) => {
      const message = parts.join('');
      const wire = Buffer.from(stuffed(Buffer.from(message, 'latin1')).toString('latin1') + LEFT, 'latin1');
      const pieces: Buffer[] = [];
      let at = 0;
      for (const cut of cuts) {
        pieces.push(wire.subarray(at, at + cut));
        at = Math.min(wire.length, at + cut);
      }
      pieces.push(wire.subarray(at));
      const octets = message === '' || message.endsWith('\r\n') ? message : `${message}\r\n`;
      assert.deepEqual(read(pieces), { octets, left: LEFT });
    }),
  );
});
