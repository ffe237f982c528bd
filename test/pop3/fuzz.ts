/**
 * Server output of every kind against the engine: sound, mutated, cut, reordered, in any pieces; each answer is compared
 * with what a slow parser makes of the same octets. `FUZZ_INPUTS` (default a million) from `FUZZ_SEED` (default 1);
 * `fuzz.test.ts` runs a part of it each time.
 */

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Command } from '../../src/pop3/command.ts';
import { Engine } from '../../src/pop3/engine.ts';
import { LINE_LIMIT } from '../../src/pop3/framer.ts';
import { seeded } from '../support/corpus.ts';
import { parseByOctet } from './reference.ts';
import type { Outcome, Wanted } from './reference.ts';

type Random = () => number;

const WORDS = [
  '\r\n',
  '\r\n',
  '.',
  '.',
  '\r',
  '\n',
  'a',
  '\0',
  '\xff',
  '+OK',
  '-ERR',
  '+ ',
  '..',
  '\r\n.\r\n',
  '12 34',
  'x'.repeat(99),
];
const LIMITS = { lines: 30, octets: 3000 };

function upTo(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

function pick<T>(random: Random, from: readonly T[]): T {
  return from[upTo(random, from.length)] as T;
}

function babble(random: Random, words: number): string {
  return Array.from({ length: upTo(random, words) }, () => pick(random, WORDS)).join('');
}

/** A sound answer to a command. */
function sound(wanted: Wanted, random: Random): string {
  if (random() < 0.2) return pick(random, ['-ERR\r\n', '-ERR [IN-USE] no\r\n', '-err [sys/temp]\r\n', '-ERR no\n']);
  const status = pick(random, ['+OK\r\n', '+OK 12 octets\r\n', '+ok [x] \r\n', '+OK \n']);
  if (wanted === 'auth') return random() < 0.5 ? '+ YQ==\r\n' : status;
  if (wanted === 'none') return status;
  const lines = babble(random, 30).replaceAll(/(^|\r\n)\./g, '$1..');
  return `${status}${lines}${lines === '' || lines.endsWith('\r\n') ? '' : '\r\n'}.\r\n`;
}

const MUTATIONS: readonly ((octets: string, random: Random) => string)[] = [
  (octets) => octets,
  (octets, random) => octets.slice(0, upTo(random, octets.length + 1)),
  (octets, random) => octets.slice(upTo(random, octets.length + 1)),
  (octets, random) => spliced(octets, random, 0, babble(random, 4)),
  (octets, random) => spliced(octets, random, 1 + upTo(random, 4), ''),
  (octets, random) => spliced(octets, random, 1, String.fromCharCode(upTo(random, 256))),
  (octets, random) => spliced(octets, random, 0, 'y'.repeat(LINE_LIMIT - 20 + upTo(random, 40))),
  (octets, random) =>
    octets
      .split('\r\n')
      .toSorted(() => random() - 0.5)
      .join('\r\n'),
  (octets, random) => octets + octets.slice(upTo(random, octets.length)),
  (_, random) => babble(random, 60),
];

function spliced(octets: string, random: Random, remove: number, add: string): string {
  const at = upTo(random, octets.length + 1);
  return octets.slice(0, at) + add + octets.slice(at + remove);
}

/** One input. @throws AssertionError if the engine makes something else of it than the slow parser, or hangs */
export async function fuzzOnce(random: Random): Promise<void> {
  const wanted = Array.from({ length: 1 + upTo(random, 5) }, () =>
    pick<Wanted>(random, ['none', 'auth', 'lines', 'message', 'message']),
  );
  const mutate = random() < 0.3 ? (octets: string) => octets : pick(random, MUTATIONS);
  const octets = Buffer.from(mutate(wanted.map((one) => sound(one, random)).join(''), random), 'latin1');
  const expected = parseByOctet(octets, wanted, LIMITS, LINE_LIMIT);

  const [ours, theirs] = duplexPair();
  const isSilent = random() < 0.002;
  const engine = new Engine(ours as Socket, { server: 'fuzz:110', timeout: isSilent ? 5 : 5000 });
  engine.pipelining = true;
  const answers = wanted.map((one) => ask(engine, one, random() < 0.1));
  await Promise.resolve();
  for (let at = 0; at < octets.length;) {
    const size = random() < 0.5 ? 1 + upTo(random, 8) : octets.length;
    theirs.write(octets.subarray(at, at + size));
    at += size;
  }
  // a server that hangs up, or one that says no more: then the deadline ends it
  if (!isSilent) theirs.end();
  theirs.resume();
  const outcomes = await Promise.all(answers);
  if (!isDeepStrictEqual(outcomes, expected)) assert.fail(explain(wanted, octets, outcomes, expected));
  engine.close(new Error('over') as never);
  theirs.destroy();
}

function explain(
  wanted: readonly Wanted[],
  octets: Buffer,
  found: readonly Outcome[],
  expected: readonly Outcome[],
): string {
  const shown = octets.toString('latin1').replaceAll(/(x{9}|y{9})[xy]+/g, '$1...');
  return JSON.stringify({ wanted, octets: shown.slice(0, 3000), found, expected }, undefined, 1).slice(0, 9000);
}

async function ask(engine: Engine, wanted: Wanted, isSlow: boolean): Promise<Outcome> {
  let given = '';
  const take = (piece: Buffer): void => void (given += piece.toString('latin1'));
  const body: Command['body'] =
    wanted === 'lines'
      ? { kind: 'lines', ...LIMITS, take: (line) => take(Buffer.concat([line, Buffer.from('\n')])) }
      : wanted === 'message'
        ? { kind: 'message', sink: { write: (piece) => (take(piece), isSlow ? Promise.resolve() : undefined) } }
        : { kind: 'none' };
  try {
    const reply = await engine.send({ line: 'X', shown: 'X', body, isAuth: wanted === 'auth' });
    return { kind: reply.kind, given };
  } catch (error) {
    const { kind } = error as { kind?: string };
    assert(kind !== undefined && /^(refused|closed|protocol|timeout)$/.test(kind), String(error));
    return { kind: kind === 'refused' ? 'err' : 'lost', given: '' };
  }
}

export async function fuzz(inputs: number, seed: number): Promise<void> {
  for (let input = 0; input < inputs; input += 1) {
    try {
      // each input has a seed of its own, so that one alone can be run again
      await fuzzOnce(seeded(seed * 2_000_003 + input));
    } catch (error) {
      throw new Error(`FUZZ_SEED=${String(seed)}, input ${String(input)}`, { cause: error });
    }
  }
}

if (process.argv[1] === import.meta.filename) {
  const inputs = Number(process.env['FUZZ_INPUTS'] ?? 1_000_000);
  const seed = Number(process.env['FUZZ_SEED'] ?? 1);
  test(`${String(inputs)} inputs from seed ${String(seed)}`, () => fuzz(inputs, seed));
}
