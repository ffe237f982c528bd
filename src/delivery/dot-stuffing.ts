/**
 * A message as it goes behind DATA (RFC 5321 §4.5.2; pure): every line end CRLF, a dot that begins a line doubled, the line with
 * the dot at the end. Nearly every message has nothing but a few dots to double, and is searched for that by native code.
 */

import { isAscii } from 'node:buffer';
import { lineEndMissing } from '../mail/line-ends.ts';
import type { Survey } from '../mail/line-ends.ts';

const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;
const CRLF = Buffer.from('\r\n');
const TERMINATOR = Buffer.from('.\r\n');
const INSERT_CR = CRLF.subarray(0, 1);
const INSERT_LF = CRLF.subarray(1);
const INSERT_DOT = TERMINATOR.subarray(0, 1);
const INSERT_LF_DOT = Buffer.from('\n.');
/** A CR without LF behind it, or an LF without CR before it; also where the neighbour lies in another chunk. */
const LONE = /\r(?!\n)|(?<!\r)\n/;

/** Makes chunks ready, however the message was cut. */
export class Stuffer {
  /** The beginning is that of a line. */
  #last = LF;
  #empty = true;
  readonly #lone: boolean;
  /** For what had to be changed, chunk after chunk. */
  #room: Buffer = Buffer.alloc(0);

  /** @param lone false if it is known that no lone CR or LF occurs, which need not be looked for then */
  constructor(lone = true) {
    this.#lone = lone;
  }

  /** The form of the next chunk, good until the one after it; the chunk itself if there was nothing to do. */
  push(chunk: Buffer): Buffer {
    const cuts = cutsOf(chunk, this.#last, this.#lone);
    const before = this.#last;
    this.#last = chunk.at(-1) ?? before;
    this.#empty &&= chunk.length === 0;
    if (cuts.length === 0) return chunk;
    // No insertion is longer than two octets.
    const most = chunk.length + 2 * cuts.length;
    if (this.#room.length < most) this.#room = Buffer.allocUnsafeSlow(most + Math.floor(most / 8));
    return inserted(chunk, before, cuts, this.#room);
  }

  /** What ends the message: a missing line end, and the line with the dot. */
  end(): Buffer {
    const missing = this.#empty ? CRLF : lineEndMissing(this.#last);
    return missing.length === 0 ? TERMINATOR : Buffer.concat([missing, TERMINATOR]);
  }
}

/** A whole message, the final dot included, and its survey: one copy. */
export function stuffed(parts: readonly Buffer[]): Survey & { readonly data: Buffer } {
  let last = LF;
  let length = 0;
  let eightBit = false;
  let lone = false;
  // What is put in, and how much of that is dots, which do not count for the size.
  let added = 0;
  let dots = 0;
  const cuts = parts.map((part) => {
    const found = cutsOf(part, last, true);
    for (const cut of found) {
      const missing = insertion(cut === 0 ? last : (part[cut - 1] ?? 0), part[cut] ?? 0);
      added += missing?.length ?? 0;
      if (missing === INSERT_DOT || missing === INSERT_LF_DOT) dots += 1;
      lone ||= missing !== INSERT_DOT;
    }
    eightBit ||= !isAscii(part);
    length += part.length;
    last = part.at(-1) ?? last;
    return found;
  });
  const end = length === 0 ? CRLF : lineEndMissing(last);
  const data = Buffer.allocUnsafe(length + added + end.length + TERMINATOR.length);
  let at = 0;
  let before = LF;
  for (const [index, part] of parts.entries()) {
    const found = cuts[index] ?? [];
    at += found.length === 0 ? part.copy(data, at) : inserted(part, before, found, data.subarray(at)).length;
    before = part.at(-1) ?? before;
  }
  at += end.copy(data, at);
  TERMINATOR.copy(data, at);
  return { size: length + added - dots + end.length, eightBit, lone: lone || last === CR, data };
}

/** The places where something must be put in. */
function cutsOf(octets: Buffer, before: number, lone: boolean): number[] {
  const cuts: number[] = [];
  // Searched as text, which V8 does with less ado.
  const text = octets.toString('latin1');
  if (lone && (before === CR || LONE.test(text))) {
    let last = before;
    for (let at = 0; at < octets.length; at++) {
      const octet = octets[at] ?? 0;
      if (insertion(last, octet) !== undefined) cuts.push(at);
      last = octet;
    }
    return cuts;
  }
  if (octets[0] === DOT && before === LF) cuts.push(0);
  for (let at = text.indexOf('\n.'); at >= 0; at = text.indexOf('\n.', at + 2)) cuts.push(at + 1);
  return cuts;
}

/** @param room with place for what is put in */
function inserted(octets: Buffer, before: number, cuts: readonly number[], room: Buffer): Buffer {
  let filled = 0;
  let from = 0;
  for (const cut of cuts) {
    filled += octets.copy(room, filled, from, cut);
    const missing = insertion(cut === 0 ? before : (octets[cut - 1] ?? 0), octets[cut] ?? 0);
    if (missing) filled += missing.copy(room, filled);
    from = cut;
  }
  filled += octets.copy(room, filled, from);
  return room.subarray(0, filled);
}

/** What is missing between two octets. */
function insertion(last: number, octet: number): Buffer | undefined {
  if (octet === LF) return last === CR ? undefined : INSERT_CR;
  if (last === CR) return octet === DOT ? INSERT_LF_DOT : INSERT_LF;
  return octet === DOT && last === LF ? INSERT_DOT : undefined;
}
