// What real servers and providers say, played whole and one octet at a time: test/transcripts.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { Capabilities } from '../../src/pop3/capabilities.ts';
import { Pop3Client } from '../../src/pop3/client.ts';
import { Pop3Error } from '../../src/pop3/error.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { sha256 } from '../support/pop3-maildrop.ts';
import { parseTranscript, play } from '../support/pop3-transcript.ts';
import type { Transcript } from '../support/pop3-transcript.ts';

assertNoLeaks();

const ROOT = join(import.meta.dirname, '..', 'transcripts');

suite('transcripts', { concurrency: 4 }, () => {
  for (const name of readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).toSorted()) {
    if (!name.endsWith('.txt')) continue;
    const file = join(ROOT, name);
    const text = readFileSync(file, 'utf8');
    const transcript = parseTranscript(text);
    test(name, async (context) => {
      if (process.env['UPDATE_TRANSCRIPTS'] !== undefined) {
        writeFileSync(file, updated(text, (await replay(transcript, 0, context)).results));
        return;
      }
      for (const chunk of [0, 1, 7]) {
        const { results, deviations } = await replay(transcript, chunk, context);
        assert.deepEqual({ results, deviations }, { results: transcript.results, deviations: [] });
      }
    });
  }
});

async function replay(
  transcript: Transcript,
  chunk: number,
  context: TestContext,
): Promise<{ results: string[]; deviations: readonly string[] }> {
  const player = await play(transcript, chunk, context);
  const { settings, steps } = transcript;
  const results: string[] = [];
  let client: Pop3Client;
  try {
    const mechanism = settings.get('mechanism') ?? 'user';
    const secret = (): Promise<string> => Promise.resolve('p1');
    client = await Pop3Client.open({
      host: '127.0.0.1',
      port: player.port,
      security: 'none',
      user: settings.get('user') ?? 'u1',
      ...(/^(xoauth2|oauthbearer)$/i.test(mechanism) ? { accessToken: secret } : { password: secret }),
      mechanism,
      utf8: settings.get('utf8') !== 'no',
      timeout: Number(settings.get('timeout') ?? 10_000),
    });
    results.push(['open', ...describe(client.capabilities)].join(' '));
  } catch (error) {
    return { results: [failure(error)], deviations: player.deviations };
  }
  const commands = steps.flatMap((step) => (step.kind === 'expects' ? [step.line] : [])).slice(player.heard);
  for (let at = 0; at < commands.length; at += 1) {
    const [verb, ...args] = (commands[at] ?? '').split(' ');
    // a listing is both, whichever comes first
    const isListing = (verb === 'UIDL' || verb === 'LIST') && args.length === 0;
    if (isListing) while (/^(UIDL|LIST)$/.test(commands[at + 1] ?? '')) at += 1;
    results.push(await act(client, isListing ? 'LISTING' : (verb ?? ''), args.map(Number)).catch(failure));
  }
  client.abort();
  return { results, deviations: player.deviations };
}

async function act(client: Pop3Client, verb: string, [number = 0, lines = 0]: readonly number[]): Promise<string> {
  switch (verb) {
    case 'STAT': {
      const { count, octets } = await client.stat();
      return `${String(count)} ${String(octets)}`;
    }
    case 'LISTING': {
      const { entries } = await client.listing();
      return `listing: ${entries.map((one) => `${String(one.messageNumber)} ${one.uniqueId ?? '-'} ${String(one.size ?? '-')}`).join(', ')}`;
    }
    case 'UIDL':
      return (await client.uniqueId(number)) ?? 'unknown';
    case 'TOP':
      return summary(await client.top(number, lines));
    case 'RETR': {
      const pieces: Buffer[] = [];
      await client.retrieve(number, { write: (piece) => void pieces.push(piece) });
      return summary(Buffer.concat(pieces));
    }
    case 'DELE':
      return client.delete(number).then(() => 'ok');
    case 'RSET':
      return client.reset().then(() => 'ok');
    case 'NOOP':
      return client.noop().then(() => 'ok');
    case 'QUIT':
      return client.quit().then(() => 'ok');
    default:
      throw new Error(`no command that a transcript may hold: ${verb}`);
  }
}

function summary(octets: Buffer): string {
  return `${String(octets.length)} ${sha256(octets).slice(0, 12)}`;
}

function failure(error: unknown): string {
  if (!(error instanceof Pop3Error)) throw error;
  return ['failed', error.kind, error.scope, error.responseCode ?? '-'].join(' ');
}

function describe({ loginDelay, expire, sasl, ...flags }: Capabilities): string[] {
  return [
    ...(['pipelining', 'uidl', 'top', 'respCodes', 'authRespCode', 'utf8', 'lang'] as const).filter(
      (name) => flags[name],
    ),
    ...(sasl === undefined ? [] : [`sasl=${sasl.join('+')}`]),
    ...(loginDelay === undefined
      ? []
      : [`loginDelay=${String(loginDelay.seconds)}${loginDelay.perUser ? '/user' : ''}`]),
    ...(expire === undefined ? [] : [`expire=${String(expire)}`]),
  ];
}

/** The text with these `=` lines, at its end. */
function updated(text: string, results: readonly string[]): string {
  const kept = text.split('\n').filter((line) => !line.startsWith('= '));
  while (kept.at(-1) === '') kept.pop();
  return `${[...kept, ...results.map((result) => `= ${result}`)].join('\n')}\n`;
}
