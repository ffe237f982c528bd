// UIDL and LIST as one listing: what servers say to both, and what is made of it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { parseCapabilities, UNANNOUNCED } from '../../src/pop3/capabilities.ts';
import { Pop3Error } from '../../src/pop3/error.ts';
import { readListing } from '../../src/pop3/listing.ts';
import type { Listing } from '../../src/pop3/listing.ts';
import { wire } from '../support/engine-wire.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

interface Said {
  /** The answers to UIDL, in order: asked a second time the next is given. */
  readonly uidl: readonly string[];
  readonly list: string;
  readonly pipelining?: boolean;
  /** The server's CAPA. Default: it names UIDL. */
  readonly announced?: 'uidl' | 'no uidl' | 'nothing';
  readonly chunk?: number;
}

/** What a listing is made of these answers, and what was asked. */
async function list(said: Said): Promise<{ listing: Listing; asked: string[] }> {
  using line = wire({ pipelining: said.pipelining ?? true });
  const { announced = 'uidl' } = said;
  const capabilities =
    announced === 'nothing' ? UNANNOUNCED : parseCapabilities(announced === 'uidl' ? ['UIDL', 'TOP'] : ['TOP']);
  const listing = readListing(line.engine, capabilities, 'pop.example:110');
  const state = { isOver: false };
  const over = listing.then(
    () => (state.isOver = true),
    () => (state.isOver = true),
  );
  const asked: string[] = [];
  const uidl = [...said.uidl];
  while (!state.isOver) {
    await until(() => state.isOver || line.writes.length > 0);
    for (const command of line.writes.splice(0).join('').split('\r\n').slice(0, -1)) {
      asked.push(command);
      line.say(command === 'UIDL' ? (uidl.shift() ?? '') : said.list, said.chunk);
    }
  }
  await over;
  return { listing: await listing, asked };
}

function entries({ entries }: Listing): string[] {
  return entries.map(({ messageNumber, uniqueId, size }) => `${messageNumber} ${uniqueId} ${size}`);
}

const TABLE: Readonly<Record<string, [said: Said, expected: string[], hasUniqueIds?: boolean]>> = {
  'an empty maildrop': [{ uidl: ['+OK\r\n.\r\n'], list: '+OK\r\n.\r\n' }, []],
  'two messages': [
    { uidl: ['+OK\r\n1 a\r\n2 b\r\n.\r\n'], list: '+OK\r\n1 10\r\n2 20\r\n.\r\n' },
    ['1 a 10', '2 b 20'],
  ],
  'one octet at a time': [
    { uidl: ['+OK\r\n1 a\r\n2 b\r\n.\r\n'], list: '+OK\r\n1 10\r\n2 20\r\n.\r\n', chunk: 1 },
    ['1 a 10', '2 b 20'],
  ],
  'in lock-step': [{ uidl: ['+OK\r\n1 a\r\n.\r\n'], list: '+OK\r\n1 10\r\n.\r\n', pipelining: false }, ['1 a 10']],
  'twins keep their unique-id': [
    { uidl: ['+OK\r\n1 a\r\n2 a\r\n.\r\n'], list: '+OK\r\n1 10\r\n2 10\r\n.\r\n' },
    ['1 a 10', '2 a 10'],
  ],
  'long, blank and 8-bit unique-ids': [
    {
      uidl: [`+OK\r\n1 ${'x'.repeat(200)}\r\n2  a b \r\n3 \u00e4\u00ff\r\n.\r\n`],
      list: '+OK\r\n1 1\r\n2 2\r\n3 3\r\n.\r\n',
    },
    [`1 ${'x'.repeat(200)} 1`, '2 a b 2', '3 \u00e4\u00ff 3'],
  ],
  'more text behind a size': [
    { uidl: ['+OK\r\n1 a\r\n.\r\n'], list: '+OK 1 message\r\n1 10 (octets)\r\n.\r\n' },
    ['1 a 10'],
  ],
  'out of order, and a number twice': [
    { uidl: ['+OK\r\n3 c\r\n1 a\r\n3 d\r\n.\r\n'], list: '+OK\r\n3 30\r\n1 10\r\n.\r\n' },
    ['1 a 10', '3 d 30'],
  ],
  'holes after DELE': [
    { uidl: ['+OK\r\n2 b\r\n5 e\r\n.\r\n'], list: '+OK\r\n2 20\r\n5 50\r\n.\r\n' },
    ['2 b 20', '5 e 50'],
  ],
  'LIST knows less than UIDL': [
    { uidl: ['+OK\r\n1 a\r\n2 b\r\n.\r\n'], list: '+OK\r\n2 20\r\n.\r\n' },
    ['1 a undefined', '2 b 20'],
  ],
  'mail came in between': [
    {
      uidl: ['+OK\r\n1 a\r\n.\r\n', '+OK\r\n1 a\r\n2 b\r\n.\r\n'],
      list: '+OK\r\n1 10\r\n2 20\r\n.\r\n',
    },
    ['1 a 10', '2 b 20'],
  ],
  'mail came that UIDL never shows': [
    { uidl: ['+OK\r\n1 a\r\n.\r\n', '+OK\r\n1 a\r\n.\r\n'], list: '+OK\r\n1 10\r\n2 20\r\n.\r\n' },
    ['1 a 10'],
  ],
  'no LIST': [{ uidl: ['+OK\r\n1 a\r\n.\r\n'], list: '-ERR unknown\r\n' }, ['1 a undefined']],
  'no UIDL, as CAPA says': [
    { uidl: ['-ERR unknown\r\n'], list: '+OK\r\n1 10\r\n.\r\n', announced: 'no uidl' },
    ['1 undefined 10'],
    false,
  ],
  'no UIDL, and no CAPA': [
    { uidl: ['-ERR unknown\r\n'], list: '+OK\r\n1 10\r\n.\r\n', announced: 'nothing' },
    ['1 undefined 10'],
    false,
  ],
  'a UIDL that CAPA forgot': [
    { uidl: ['+OK\r\n1 a\r\n.\r\n'], list: '+OK\r\n1 10\r\n.\r\n', announced: 'no uidl' },
    ['1 a 10'],
  ],
};

for (const [name, [said, expected, hasUniqueIds = true]] of Object.entries(TABLE)) {
  test(`listing: ${name}`, async () => {
    const { listing } = await list(said);
    assert.deepEqual(entries(listing), expected);
    assert.equal(listing.hasUniqueIds, hasUniqueIds);
  });
}

const GOOD = '+OK\r\n1 10\r\n.\r\n';

// Taken for an empty maildrop, or for one without unique-ids, each of these would lose or repeat mail.
const FAULTS: Readonly<Record<string, [said: Said, error: { kind: string; responseCode?: string }]>> = {
  'both refused': [{ uidl: ['-ERR no\r\n'], list: '-ERR no\r\n', announced: 'nothing' }, { kind: 'protocol' }],
  'UIDL announced and refused': [{ uidl: ['-ERR internal error\r\n'], list: GOOD }, { kind: 'refused' }],
  'UIDL refused with a code': [
    { uidl: ['-ERR [SYS/TEMP] later\r\n'], list: GOOD, announced: 'nothing' },
    { kind: 'refused', responseCode: 'SYS/TEMP' },
  ],
  'LIST refused with a code': [
    { uidl: ['+OK\r\n1 a\r\n.\r\n'], list: '-ERR [UTF8] say UTF8 first\r\n' },
    { kind: 'refused', responseCode: 'UTF8' },
  ],
  'UIDL empty, LIST not': [{ uidl: ['+OK\r\n.\r\n', '+OK\r\n.\r\n'], list: GOOD }, { kind: 'protocol' }],
  'a line without unique-id': [{ uidl: ['+OK\r\n1\r\n.\r\n'], list: GOOD }, { kind: 'protocol' }],
  'a line without number': [{ uidl: ['+OK\r\nabc\r\n.\r\n'], list: GOOD }, { kind: 'protocol' }],
  'message number 0': [{ uidl: ['+OK\r\n0 a\r\n.\r\n'], list: GOOD }, { kind: 'protocol' }],
  'a size that is none': [{ uidl: ['+OK\r\n1 a\r\n.\r\n'], list: '+OK\r\n1 big\r\n.\r\n' }, { kind: 'protocol' }],
  'a unique-id of 2000 octets': [{ uidl: [`+OK\r\n1 ${'x'.repeat(2000)}\r\n.\r\n`], list: GOOD }, { kind: 'protocol' }],
};

for (const [name, [said, error]] of Object.entries(FAULTS)) {
  test(`no listing: ${name}`, async () => {
    await assert.rejects(list(said), (thrown) => {
      assert(thrown instanceof Pop3Error, String(thrown));
      assert.equal(thrown.kind, error.kind, thrown.message);
      assert.equal(thrown.responseCode, error.responseCode);
      return true;
    });
  });
}

test('a connection that ends inside a list gives no listing', async () => {
  using line = wire();
  const listing = readListing(line.engine, parseCapabilities(['UIDL']), 'pop.example:110');
  await until(() => line.writes.length > 0);
  line.say('+OK\r\n1 a\r\n');
  line.remote.end();
  await assert.rejects(listing, { kind: 'closed', message: /in the middle of its answer to UIDL/ });
});

test('a million messages in bounded memory', async () => {
  const count = 1_000_000;
  const lines = (rest: (number: number) => string): string => {
    const parts = ['+OK\r\n'];
    for (let number = 1; number <= count; number += 1) parts.push(`${number} ${rest(number)}\r\n`);
    return `${parts.join('')}.\r\n`;
  };
  const uidl = Buffer.from(lines((number) => `0000${number.toString(16)}6b03dd58`));
  const sizes = Buffer.from(lines((number) => String(number * 7)));
  const before = process.memoryUsage().rss;
  using line = wire();
  const asked = readListing(line.engine, parseCapabilities(['UIDL']), 'pop.example:110');
  await until(() => line.writes.length > 0);
  line.say(uidl, 65_536);
  line.say(sizes, 65_536);
  const { entries } = await asked;
  const grown = (process.memoryUsage().rss - before) / 1024 / 1024;
  assert.equal(entries.length, count);
  assert.deepEqual(entries[count - 1], { messageNumber: count, uniqueId: '0000f42406b03dd58', size: 7_000_000 });
  assert(grown < 400, `grown by ${Math.round(grown)} MB`);
});
