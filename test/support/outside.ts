/**
 * mailferry's promises as they can be seen from outside: what lies on the POP3 server, what the destinations took, what
 * the log says. It knows nothing of the ledger.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import type { HttpRequest, HttpSink } from './http-sink.ts';
import type { LogLine } from './mailferry.ts';
import type { RunningServer } from './servers.ts';
import type { SmtpMessage, SmtpSink } from './smtp-sink.ts';

export interface TestMail {
  readonly id: string;
  readonly octets: Buffer;
  readonly sha256: string;
}

/** Mail that SMTP carries unchanged: each with its own Message-ID, `octets` long if that is enough for its header. */
export function mail(name: string, octets = 500): TestMail {
  const id = `<${name}@sender.example>`;
  const header =
    `Received: from sender.example by isp.example id ${name}; Mon, 02 Nov 2026 10:00:00 +0000\r\n` +
    `From: Sender <s@sender.example>\r\nTo: jane@isp.example\r\nSubject: ${name}\r\nMessage-ID: ${id}\r\n` +
    `Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\n`;
  const line = `${'mail '.repeat(14)}\r\n`;
  const body = line.repeat(Math.max(1, Math.ceil((octets - header.length) / line.length)));
  const whole = Buffer.from(header + body, 'latin1');
  return { id, octets: whole, sha256: createHash('sha256').update(whole).digest('hex') };
}

/** Several of them. */
export function mails(name: string, count: number, octets = 500): TestMail[] {
  return Array.from({ length: count }, (_, index) => mail(`${name}.${String(index)}`, octets));
}

export function idOf(head: Buffer | string): string {
  const text = typeof head === 'string' ? head : head.subarray(0, 64 * 1024).toString('latin1');
  return /^Message-ID: (\S+)/im.exec(text)?.[1] ?? '';
}

/** What a webhook receiver took, by Message-ID. Bodies must be kept. */
export function hookIds(sink: HttpSink): string[] {
  return sink.accepted.map(({ body }) => idOf(body ?? ''));
}

export function smtpIds(sink: SmtpSink): string[] {
  return sink.messages.map(({ head }) => idOf(head));
}

/** What lies in a maildrop of Dovecot or Courier, by Message-ID. */
export async function maildropIds(server: RunningServer, user: string): Promise<string[]> {
  return (await server.stored(user)).map(idOf);
}

export function tally(ids: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** Promise 1: what is gone from the server has been taken by every destination. */
export function assertNothingLost(sent: readonly TestMail[], onServer: readonly string[], ...sinks: string[][]): void {
  const left = new Set(onServer);
  for (const ids of sinks) {
    const taken = new Set(ids);
    const lost = sent.filter(({ id }) => !left.has(id) && !taken.has(id)).map(({ id }) => id);
    assert.deepEqual(lost, [], 'deleted from the server before a destination took it');
  }
}

/** A delivery that was made more than once, and how often beyond the first. */
interface Repeat {
  readonly uniqueId: string;
  readonly destination: string;
  readonly times: number;
}

/**
 * Promise 2: every delivery that was made again had been said to be in doubt, as often as it was made again.
 * @returns the repeats
 */
export function assertRepeatsFlagged(
  sinks: { readonly hook: HttpSink; readonly inbox: SmtpSink },
  log: readonly LogLine[],
): Repeat[] {
  const uniqueIds = new Map<string, string>();
  for (const { body, headers } of sinks.hook.requests)
    uniqueIds.set(idOf(body ?? ''), String(headers['x-mailferry-unique-id']));
  const repeats: Repeat[] = [];
  const count = (destination: string, ids: readonly string[]): void => {
    for (const [id, times] of tally(ids))
      if (times > 1) repeats.push({ uniqueId: uniqueIds.get(id) ?? id, destination, times: times - 1 });
  };
  count('hook', hookIds(sinks.hook));
  count('inbox', smtpIds(sinks.inbox));
  const flags = tally(
    log
      .filter(({ msg }) => msg === 'delivery in doubt: it will be made again')
      .map(({ destination, uniqueId }) => `${String(destination)} ${String(uniqueId)}`),
  );
  const unflagged = repeats.filter(
    ({ destination, uniqueId, times }) => (flags.get(`${destination} ${uniqueId}`) ?? 0) < times,
  );
  assert.deepEqual(unflagged, [], 'repeated without being in doubt');
  assertSameKeys(sinks);
  return repeats;
}

/** A delivery made again carries the key that it carried before. */
function assertSameKeys({ hook, inbox }: { readonly hook: HttpSink; readonly inbox: SmtpSink }): void {
  const keyOfRequest = ({ headers }: HttpRequest): string => String(headers['webhook-id']);
  const keyOfMessage = ({ head }: SmtpMessage): string => / id (\S+)/.exec(head.toString('latin1'))?.[1] ?? '';
  for (const pairs of [
    hook.accepted.map((request) => [idOf(request.body ?? ''), keyOfRequest(request)] as const),
    inbox.messages.map((message) => [idOf(message.head), keyOfMessage(message)] as const),
  ]) {
    const keys = new Map<string, string>();
    for (const [id, key] of pairs) {
      assert.equal(keys.get(id) ?? key, key, `one key for ${id}`);
      keys.set(id, key);
    }
  }
}

/** Octets at both destinations are those of the server. */
export function assertUnchanged(
  sent: readonly TestMail[],
  { hook, inbox }: { readonly hook: HttpSink; readonly inbox: SmtpSink },
): void {
  const expected = new Set(sent.map(({ sha256 }) => sha256));
  for (const { sha256 } of hook.accepted) assert.ok(expected.has(sha256), 'octets at the webhook');
  for (const { sha256BelowTrace } of inbox.messages) assert.ok(expected.has(sha256BelowTrace), 'octets by SMTP');
}

/** What the passing of half a minute does after a worker was killed: its leases run out, and its jobs count as stalled. */
export async function expireLeases(redis: Redis): Promise<void> {
  const leases = [...(await redis.keys('mailferry:*:lease')), ...(await redis.keys('{mailferry}:polls:*:lock'))];
  if (leases.length > 0) await redis.del(...leases);
}

/** One more poll of an account now, as by its schedule. */
export async function pollNow(socket: string, account: string): Promise<void> {
  const connection = new Redis(socket, { maxRetriesPerRequest: null, replyMapping: 'legacy' });
  const queue = new Queue('polls', { connection, prefix: '{mailferry}' });
  try {
    await queue.add(account, { account }, { removeOnComplete: true, removeOnFail: true });
  } finally {
    await queue.close();
    connection.disconnect();
  }
}
