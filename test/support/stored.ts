/** Messages as deliveries get them, made of octets or of a recipe for octets, for tests of everything behind RETR. */

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Delivery } from '../../src/delivery/destination.ts';
import { endOfHeader } from '../../src/mail/header.ts';
import type { StoredMessage } from '../../src/mail/message.ts';

/** A message in memory, or with `streamed` one that can only be read as a stream. */
export function storedMessage(octets: Buffer | string, options: { readonly streamed?: boolean } = {}): StoredMessage {
  const bytes = typeof octets === 'string' ? Buffer.from(octets, 'latin1') : octets;
  const end = endOfHeader(bytes);
  return {
    size: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    bodySha256: createHash('sha256')
      .update(bytes.subarray(Math.max(0, end)))
      .digest('hex'),
    header: end < 0 ? bytes : bytes.subarray(0, end),
    bytes: options.streamed === true ? undefined : bytes,
    open: () => Readable.from(slices(bytes)),
    release: () => Promise.resolve(),
  };
}

/** A message of any size that exists nowhere: `chunk` over and over, behind a small header, with its end at the end. */
export function hugeMessage(size: number, chunk: Buffer = line(64 * 1024)): StoredMessage {
  const header = Buffer.from('From: a@example.org\r\nSubject: huge\r\n\r\n');
  function* octets(): Generator<Buffer> {
    yield header;
    for (let left = size - header.length; left > 0; left -= chunk.length)
      yield chunk.subarray(Math.max(0, chunk.length - left));
  }
  const hash = createHash('sha256');
  const body = createHash('sha256');
  for (const part of octets()) {
    hash.update(part);
    if (part !== header) body.update(part);
  }
  return {
    size,
    sha256: hash.digest('hex'),
    bodySha256: body.digest('hex'),
    header,
    bytes: undefined,
    open: () => Readable.from(octets()),
    release: () => Promise.resolve(),
  };
}

/** A first attempt at delivering `message`. */
export function deliveryOf(message: StoredMessage, changes: Partial<Delivery> = {}): Delivery {
  return {
    message,
    account: 'old-isp',
    uniqueId: 'uid-1',
    idempotencyKey: 'key_0123456789-abcdef',
    attempt: 1,
    firstSeen: new Date('2026-01-02T03:04:05Z'),
    settled: new Set(),
    signal: new AbortController().signal,
    ...changes,
  };
}

function line(length: number): Buffer {
  const text = `${'mail '.repeat(15)}\r\n`;
  return Buffer.from(text.repeat(Math.ceil(length / text.length)).slice(0, length - 2) + '\r\n');
}

function* slices(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}
