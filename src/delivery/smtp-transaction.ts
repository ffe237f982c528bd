/**
 * One mail transaction (RFC 5321 §3.3; RFC 2033 for LMTP): MAIL, RCPT and DATA in one go where the server pipelines (RFC 2920),
 * then the message. It tells what was answered and how far the message got; what that means is `smtp-outcome.ts`'s.
 */

import { reasonOf } from '../failure.ts';
import type { Progress } from './content.ts';
import { Stuffer } from './dot-stuffing.ts';
import { needsUtf8 } from './address.ts';
import type { Extensions } from './smtp-extensions.ts';
import type { Ending, Reply, Stage } from './smtp-outcome.ts';
import type { Wire } from './smtp-wire.ts';

/** What is handed to the socket at a time: small, so that "complete" is noted as late as possible. Octets. */
const SLICE = 64 * 1024;

/** An envelope as it goes to the server, addresses checked, and what is known of the message. */
export interface WireEnvelope {
  readonly from: string;
  readonly to: readonly string[];
  /** Octets, for SIZE. */
  readonly size: number;
  readonly eightBit: boolean;
  /** Asks for REQUIRETLS (RFC 8689). */
  readonly requireTls: boolean;
}

/** A message that is made ready for DATA on its way. */
export interface Chunked {
  /** Each chunk is done with before the next is asked for. */
  readonly chunks: () => AsyncIterable<Buffer>;
  /** A lone CR or LF occurs. */
  readonly lone: boolean;
}

/** A message on its way: ready, the final dot included, or not yet. */
export type Content = { readonly data: Buffer } | Chunked;

export interface TransactionReport {
  /** Refusals at RCPT TO, by address as in the envelope. */
  readonly refused: ReadonlyMap<string, Reply>;
  /** LMTP: the replies after the final dot, by address as in the envelope; those that came, if the connection broke. */
  readonly settled: ReadonlyMap<string, Reply>;
  readonly ending: Ending;
}

/** What is known of the server. */
export interface Peer {
  readonly extensions: Extensions;
  readonly lmtp: boolean;
  /** It refused the transaction before this one, and may still hold a part of it. */
  readonly holdsAnother: boolean;
}

/** One transaction as it is asked for. */
export interface Request {
  readonly envelope: WireEnvelope;
  readonly content: Content;
  /** Kept as it goes. */
  readonly progress: Progress;
  /** Aborted before the message has begun: it does not begin any more. */
  readonly signal: AbortSignal;
  /** Awaited before the message begins: it must not if this comes to false. */
  readonly begun: Promise<boolean> | undefined;
  /** Called when all was handed over and only the answer is waited for. */
  readonly onSent: () => void;
}

/**
 * Runs a transaction to its end. Never throws: what went wrong is the report's ending.
 * @param before resolves when the transaction before this one has its answers
 */
export async function transact(
  wire: Wire,
  request: Request,
  peer: Peer,
  before: Promise<void> | undefined,
): Promise<TransactionReport> {
  const { envelope, content, progress, signal, begun, onSent } = request;
  const refused = new Map<string, Reply>();
  const settled = new Map<string, Reply>();
  const obstacle = await announce(wire, envelope, refused, peer);
  if (obstacle !== undefined) return { refused, settled, ending: obstacle };
  // The one before may have ended the connection: then nothing of this message must look sent.
  await before;
  if ((await begun) === false) wire.end('the message must not be sent');
  if (signal.aborted) wire.end(reasonOf(signal.reason));
  if (wire.lost !== undefined) return nothingSent(wire.lost);
  const accepted = envelope.to.filter((address) => !refused.has(address));
  const final = wire.replies(peer.lmtp ? accepted.length : 1);
  progress.started = true;
  try {
    await ('data' in content ? sendData(wire, content.data, progress) : sendChunks(wire, content, progress));
  } catch (error) {
    wire.end('the message could not be read');
    return { refused, settled, ending: { kind: 'unreadable', reason: reasonOf(error) } };
  }
  // A server that answered amid the message may take the rest of it for commands: nothing more is written to it.
  const { complete } = progress;
  if (complete) onSent();
  const replies = await final;
  if (peer.lmtp && complete) {
    for (const [index, reply] of replies.entries()) settled.set(accepted[index] ?? '', reply);
  }
  return { refused, settled, ending: endingOf(wire, replies, peer.lmtp ? accepted.length : 1, progress) };
}

/** The report of a transaction that ended before its message was begun. */
export function nothingSent(reason: string): TransactionReport {
  return {
    refused: new Map(),
    settled: new Map(),
    ending: { kind: 'lost', reason, started: false, complete: false },
  };
}

/** Everything before the message. @returns why there is none to be sent; undefined if it is waited for */
async function announce(
  wire: Wire,
  envelope: WireEnvelope,
  refused: Map<string, Reply>,
  { extensions, holdsAnother }: Peer,
): Promise<Ending | undefined> {
  const reset = holdsAnother ? 'RSET\r\n' : '';
  const mail = `MAIL FROM:<${envelope.from}>${parameters(envelope, extensions)}\r\n`;
  const recipients = envelope.to.map((address) => `RCPT TO:<${address}>\r\n`);
  const pipelined = extensions.has('PIPELINING');
  let queue: readonly Reply[] = [];
  if (pipelined) {
    const all = wire.replies(recipients.length + (holdsAnother ? 3 : 2));
    await wire.write(`${reset}${mail}${recipients.join('')}DATA\r\n`);
    queue = await all;
  }
  let next = 0;
  const ask = async (line: string): Promise<Reply | undefined> => {
    const reply = wire.replies(1);
    await wire.write(line);
    return (await reply)[0];
  };
  const answer = (line: string): Reply | undefined | Promise<Reply | undefined> =>
    pipelined ? queue[next++] : ask(line);
  if (holdsAnother && !isTaken(await answer(reset))) {
    wire.end('the server did not take RSET');
    return refusal(wire, 'mail', undefined);
  }
  const mailReply = await answer(mail);
  if (!isTaken(mailReply)) {
    // A server that refuses the sender and takes DATA all the same waits for a message: it is not to be had an empty one.
    if (pipelined && isGoAhead(queue.at(-1))) wire.end('the server took DATA without a sender');
    return refusal(wire, 'mail', mailReply);
  }
  for (const [index, line] of recipients.entries()) {
    const reply = await answer(line);
    if (reply === undefined || reply.code === 421) return refusal(wire, 'rcpt', reply);
    if (!isTaken(reply)) refused.set(envelope.to[index] ?? '', reply);
  }
  if (refused.size === envelope.to.length) {
    const replies = [...refused.values()];
    // RFC 2920 §3.1: a server that takes DATA for nobody gets an empty message to end it.
    if (pipelined && queue[next]?.code === 354) await endEmpty(wire);
    else if (pipelined && isGoAhead(queue[next])) wire.end('the server took DATA for nobody');
    return refusal(wire, 'rcpt', replies.find(({ code }) => code < 500) ?? replies.at(-1));
  }
  const dataReply = await answer('DATA\r\n');
  return isGoAhead(dataReply) ? undefined : refusal(wire, 'data', dataReply);
}

/** The answer to DATA after which the server waits for a message. Some say 250 there. */
function isGoAhead(reply: Reply | undefined): boolean {
  return reply !== undefined && reply.code >= 200 && reply.code < 400;
}

function parameters(envelope: WireEnvelope, extensions: Extensions): string {
  const words: string[] = [];
  if (extensions.has('SMTPUTF8') && [envelope.from, ...envelope.to].some(needsUtf8)) words.push(' SMTPUTF8');
  if (envelope.eightBit && extensions.has('8BITMIME')) words.push(' BODY=8BITMIME');
  if (envelope.size > 0 && extensions.has('SIZE')) words.push(` SIZE=${String(envelope.size)}`);
  if (envelope.requireTls) words.push(' REQUIRETLS');
  return words.join('');
}

async function endEmpty(wire: Wire): Promise<void> {
  const reply = wire.replies(1);
  await wire.write('.\r\n');
  await reply;
}

async function sendData(wire: Wire, data: Buffer, progress: Progress): Promise<void> {
  for (let at = 0; at < data.length && isWanted(wire); at += SLICE) {
    if (at + SLICE >= data.length) progress.complete = true;
    await wire.write(data.length <= SLICE ? data : data.subarray(at, at + SLICE));
  }
}

async function sendChunks(wire: Wire, { chunks, lone }: Chunked, progress: Progress): Promise<void> {
  const stuffer = new Stuffer(lone);
  for await (const chunk of chunks()) {
    if (!isWanted(wire)) return;
    await wire.flush(stuffer.push(chunk));
  }
  if (!isWanted(wire)) return;
  progress.complete = true;
  await wire.write(stuffer.end());
}

function isWanted(wire: Wire): boolean {
  return wire.lost === undefined && !wire.isAnswered;
}

function endingOf(wire: Wire, replies: readonly Reply[], wanted: number, progress: Progress): Ending {
  const refusing = replies.find(({ code }) => code < 200 || code > 299);
  if (!progress.complete && replies.length > 0 && refusing === undefined) {
    // What was there before the end of the message can be no answer to it.
    return { kind: 'lost', reason: 'the server confirmed a message that it did not have yet', ...progress };
  }
  // Who got no reply of its own has not been answered, whatever the others were told (421 ends the replies).
  if (replies.length < wanted && (wanted > 1 || refusing === undefined)) {
    const reason = wire.lost ?? 'a recipient got no reply';
    return { kind: 'lost', reason, ...progress };
  }
  const taking = replies.find(({ code }) => code > 199 && code < 300);
  if (taking !== undefined && progress.complete) return { kind: 'accepted', reply: taking };
  return refusal(wire, 'message', refusing, progress);
}

/** A reply that is neither yes nor no says nothing; after the final dot it leaves the delivery in doubt. */
function refusal(
  wire: Wire,
  stage: Stage,
  reply: Reply | undefined,
  progress: Progress = { started: false, complete: false },
): Ending {
  if (reply === undefined) return { kind: 'lost', reason: wire.lost ?? 'the server did not answer', ...progress };
  if (reply.code >= 400 && reply.code <= 599) return { kind: 'refused', stage, reply };
  return { kind: 'lost', reason: `the server answered out of turn: ${reply.text}`, ...progress };
}

function isTaken(reply: Reply | undefined): boolean {
  return reply !== undefined && reply.code >= 200 && reply.code < 300;
}
