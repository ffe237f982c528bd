/**
 * The octets of a delivery as a stream, with the knowledge of how far it got: whether a cut connection leaves a delivery
 * deferred or in doubt hangs on it. A message that turns out short must never look complete to the receiver.
 */

import { Readable } from 'node:stream';
import { Failure } from '../failure.ts';
import type { StoredMessage } from '../mail/message.ts';

/** What is handed over at a time: small, so that "complete" is noted as late as possible. Octets. */
export const SLICE = 64 * 1024;

/** How far the sending of a body has come. Only ever goes forward. */
export interface Progress {
  /** The first octet has been asked for. */
  started: boolean;
  /** The last octet has been handed over: the receiver may have everything. */
  complete: boolean;
}

/** A progress before the start. */
export function noProgress(): Progress {
  return { started: false, complete: false };
}

/**
 * All octets of the message, from memory where they are there, else from its file.
 * Throws a `Failure` (`message.truncated`) in place of its end if they are not as many as they were.
 */
export async function* octetsOf(message: StoredMessage): AsyncGenerator<Buffer, void, undefined> {
  let seen = 0;
  if (message.bytes === undefined) {
    for await (const chunk of message.open() as AsyncIterable<Buffer>) {
      seen += chunk.length;
      yield chunk;
    }
  } else {
    seen = message.bytes.length;
    for (let at = 0; at < seen; at += SLICE) yield message.bytes.subarray(at, at + SLICE);
  }
  checkSize(message, seen);
}

function checkSize({ size }: StoredMessage, seen: number): void {
  if (seen === size) return;
  throw new Failure(`the stored copy has ${String(seen)} octets, ${String(size)} were retrieved`, {
    scope: 'message',
    code: 'message.truncated',
    remedy: 'Check the disk that holds dataDir; the message is still on its server and is retrieved again.',
  });
}

/** As `octetsOf`, but each piece is good only until the next one is asked for. */
export async function* piecesOf(message: StoredMessage): AsyncGenerator<Buffer, void, undefined> {
  if (!message.pieces) {
    yield* octetsOf(message);
    return;
  }
  let seen = 0;
  for await (const piece of message.pieces()) {
    seen += piece.length;
    yield piece;
  }
  checkSize(message, seen);
}

/** `chunks` as a stream that notes in `progress` when it is first read and when its last octet is taken. */
export function tracked(chunks: AsyncIterable<Buffer>, progress: Progress): Readable {
  return Readable.from(noted(chunks, progress), { objectMode: true, highWaterMark: 1 });
}

/** As `tracked`, without the stream around it. */
export async function* noted(
  chunks: AsyncIterable<Buffer>,
  progress: Progress,
): AsyncGenerator<Buffer, void, undefined> {
  progress.started = true;
  // One chunk is held back, so that "complete" is noted before the last octet leaves and not after it.
  let held: Buffer | undefined;
  for await (const chunk of chunks) {
    if (held !== undefined) yield held;
    held = chunk;
  }
  progress.complete = true;
  if (held !== undefined) yield held;
}
