/** A message in our hands: what RETR gave, dot-unstuffed, octet for octet. Types only; `store/spool.ts` makes them. */

import type { Readable } from 'node:stream';
import type { Survey } from './line-ends.ts';

/** A message whose terminator arrived. Its octets never change; anything added goes in front, at delivery. */
export interface StoredMessage {
  /** In octets, dot-stuffing removed. */
  readonly size: number;
  /** SHA-256 of all octets, in hexadecimal. */
  readonly sha256: string;
  /**
   * SHA-256 of what follows the header, in hexadecimal: servers add header fields (Status, X-UIDL) between sessions, and leave
   * the body. Of all octets where no empty line ends the header.
   */
  readonly bodySha256: string;
  /** The header, the empty line included, cut at 256 KB. */
  readonly header: Buffer;
  /** The message itself if it is small enough to be held in memory. */
  readonly bytes: Buffer | undefined;
  /** What is known of its lines, of a large message: it was looked at as it came, and need not be read for that. */
  readonly survey?: Survey | undefined;
  /** A new stream of all octets at each call. Destroying it early is fine. */
  open(): Readable;
  /** All octets at each call, piece by piece, without garbage: a piece is good until the next one is asked for. */
  pieces?(): AsyncIterable<Buffer>;
  /** Gives memory or the spool file back; idempotent. `open` must not be called after it. */
  release(): Promise<void>;
}
