/**
 * Line ends of a message on the way through protocols of lines (pure). Only CRLF may reach the wire of SMTP: a receiver that
 * takes a lone CR or LF for a line end would see the end of the message, and commands, where none is (SMTP smuggling).
 */

import { isAscii } from 'node:buffer';

const CR = 0x0d;
const LF = 0x0a;
const CRLF = Buffer.from('\r\n');
const EMPTY = Buffer.alloc(0);

/** A CR without LF behind it, or an LF without CR before it. */
const LONE = /\r(?!\n)|(?<!\r)\n/g;

/** What must be known of a message before it is announced in MAIL FROM. */
export interface Survey {
  /** Octets after `normalizeLineEnds`, dot-stuffing not counted: the SIZE of RFC 1870 §5. */
  readonly size: number;
  /** An octet above 127 occurs (RFC 6152). */
  readonly eightBit: boolean;
  /** A lone CR or LF occurs. */
  readonly lone: boolean;
}

/** Counts what `normalizeLineEnds` would give, chunk by chunk, in constant memory. */
export class Surveyor {
  #size = 0;
  #eightBit = false;
  #lone = false;
  #last = -1;

  add(chunk: Buffer): void {
    if (chunk.length === 0) return;
    // Strings are searched ten times as fast as octets are looked at one by one.
    const text = chunk.toString('latin1');
    let added = text.match(LONE)?.length ?? 0;
    // At its ends, the neighbour decides, which lies in another chunk.
    if (chunk[0] === LF) added -= 1;
    if (chunk.at(-1) === CR) added -= 1;
    if (chunk[0] === LF ? this.#last !== CR : this.#last === CR) added += 1;
    this.#last = chunk.at(-1) ?? -1;
    this.#size += chunk.length + added;
    this.#lone ||= added > 0;
    this.#eightBit ||= !isAscii(chunk);
  }

  /** The survey of all chunks so far, a missing last line end added. */
  result(): Survey {
    return {
      size: this.#size + lineEndMissing(this.#last).length,
      eightBit: this.#eightBit,
      lone: this.#lone || this.#last === CR,
    };
  }
}

/** The survey of octets that are at hand. */
export function surveyOf(...chunks: readonly Buffer[]): Survey {
  const surveyor = new Surveyor();
  for (const chunk of chunks) surveyor.add(chunk);
  return surveyor.result();
}

/**
 * The octets with every lone CR and every lone LF made CRLF, and a last line end added if there is none: what a message
 * becomes where a protocol knows lines only (RFC 5321 §2.3.8). Messages with proper line ends come through unchanged.
 */
export class LineEndNormalizer {
  #last = -1;

  /** The normalized form of the next chunk; the chunk itself if there was nothing to do. */
  push(chunk: Buffer): Buffer {
    const parts: Buffer[] = [];
    let from = 0;
    let last = this.#last;
    for (let at = 0; at < chunk.length; at++) {
      const octet = chunk[at] ?? 0;
      if (octet === LF ? last !== CR : last === CR) {
        parts.push(chunk.subarray(from, at), octet === LF ? CRLF.subarray(0, 1) : CRLF.subarray(1));
        from = at;
      }
      last = octet;
    }
    this.#last = last;
    if (parts.length === 0) return chunk;
    parts.push(chunk.subarray(from));
    return Buffer.concat(parts);
  }

  /** What is missing at the end. */
  end(): Buffer {
    return lineEndMissing(this.#last);
  }
}

/** `LineEndNormalizer` for octets that are at hand. */
export function normalizeLineEnds(octets: Buffer): Buffer {
  const normalizer = new LineEndNormalizer();
  const body = normalizer.push(octets);
  const end = normalizer.end();
  return end.length === 0 ? body : Buffer.concat([body, end]);
}

/** What makes a line end of the end of a message. @param last its last octet, or -1 */
export function lineEndMissing(last: number): Buffer {
  if (last === LF) return EMPTY;
  return last === CR ? CRLF.subarray(1) : CRLF;
}
