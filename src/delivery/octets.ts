/**
 * Line ends of a message on the way through SMTP (pure). Only CRLF may reach the wire: a receiver that takes a lone CR or
 * LF for a line end would see the end of the message, and commands behind it, where none is (SMTP smuggling).
 */

const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;
const CRLF = Buffer.from('\r\n');
const EMPTY = Buffer.alloc(0);
/** Behind a line end (RFC 5321 §4.1.1.4). */
const TERMINATOR = Buffer.from('.\r\n');

/** What must be known of a message before it is announced in MAIL FROM. */
export interface Survey {
  /** Octets after `normalizeLineEnds`, dot-stuffing not counted: the SIZE of RFC 1870 §5. */
  readonly size: number;
  /** An octet above 127 occurs (RFC 6152). */
  readonly eightBit: boolean;
}

/** Counts what `normalizeLineEnds` would give, chunk by chunk, in constant memory. */
export class Surveyor {
  #size = 0;
  #eightBit = false;
  #last = -1;

  add(chunk: Uint8Array): void {
    let last = this.#last;
    let added = 0;
    let high = 0;
    for (const octet of chunk) {
      high |= octet;
      if (octet === LF ? last !== CR : last === CR) added++;
      last = octet;
    }
    this.#last = last;
    this.#size += chunk.length + added;
    if (high > 127) this.#eightBit = true;
  }

  /** The survey of all chunks so far, a missing last line end added. */
  result(): Survey {
    return { size: this.#size + lineEndMissing(this.#last).length, eightBit: this.#eightBit };
  }
}

/** The survey of octets that are at hand. */
export function surveyOf(...chunks: readonly Uint8Array[]): Survey {
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

/** The octets as they go behind DATA: line ends normalized, and a dot that begins a line doubled (RFC 5321 §4.5.2). */
export class Stuffer {
  /** The beginning is that of a line. */
  #last = LF;
  #empty = true;

  /** The form of the next chunk; the chunk itself if there was nothing to do. */
  push(chunk: Buffer): Buffer {
    const parts: Buffer[] = [];
    let from = 0;
    let last = this.#last;
    for (let at = 0; at < chunk.length; at++) {
      const octet = chunk[at] ?? 0;
      // Nearly every octet is none of these, and stands behind none of them.
      if (octet <= DOT || last === CR) {
        const missing = insertion(last, octet);
        if (missing !== undefined) {
          parts.push(chunk.subarray(from, at), missing);
          from = at;
        }
      }
      last = octet;
    }
    this.#last = last;
    this.#empty &&= chunk.length === 0;
    if (parts.length === 0) return chunk;
    parts.push(chunk.subarray(from));
    return Buffer.concat(parts);
  }

  /** What ends the message: a missing line end, and the line with the dot. */
  end(): Buffer {
    const missing = this.#empty ? CRLF : lineEndMissing(this.#last);
    return missing.length === 0 ? TERMINATOR : Buffer.concat([missing, TERMINATOR]);
  }
}

const INSERT_CR = CRLF.subarray(0, 1);
const INSERT_LF = CRLF.subarray(1);
const INSERT_DOT = TERMINATOR.subarray(0, 1);
const INSERT_LF_DOT = Buffer.from('\n.');

function insertion(last: number, octet: number): Buffer | undefined {
  if (octet === LF) return last === CR ? undefined : INSERT_CR;
  if (last === CR) return octet === DOT ? INSERT_LF_DOT : INSERT_LF;
  return octet === DOT && last === LF ? INSERT_DOT : undefined;
}

/** A whole message as it goes behind DATA, the final dot included, and its survey: one copy, one look at each octet. */
export function stuffed(parts: readonly Buffer[]): Survey & { readonly data: Buffer } {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const data = Buffer.allocUnsafe(length + CRLF.length + TERMINATOR.length);
  let at = 0;
  for (const part of parts) at += part.copy(data, at);
  const cuts: number[] = [];
  let last = LF;
  let high = 0;
  let added = 0;
  for (let index = 0; index < length; index++) {
    const octet = data[index] ?? 0;
    high |= octet;
    if (octet <= DOT || last === CR) {
      const missing = insertion(last, octet);
      if (missing !== undefined) {
        cuts.push(index);
        if (missing !== INSERT_DOT) added++;
      }
    }
    last = octet;
  }
  const end = length === 0 ? CRLF : lineEndMissing(last);
  const survey = { size: length + added + end.length, eightBit: high > 127 };
  at += end.copy(data, at);
  at += TERMINATOR.copy(data, at);
  if (cuts.length === 0) return { ...survey, data: data.subarray(0, at) };
  const pieces: Buffer[] = [];
  let from = 0;
  for (const cut of cuts) {
    pieces.push(data.subarray(from, cut), insertion(cut === 0 ? LF : (data[cut - 1] ?? 0), data[cut] ?? 0) ?? EMPTY);
    from = cut;
  }
  pieces.push(data.subarray(from, at));
  return { ...survey, data: Buffer.concat(pieces) };
}

/** `LineEndNormalizer` for octets that are at hand. */
export function normalizeLineEnds(octets: Buffer): Buffer {
  const normalizer = new LineEndNormalizer();
  const body = normalizer.push(octets);
  const end = normalizer.end();
  return end.length === 0 ? body : Buffer.concat([body, end]);
}

function lineEndMissing(last: number): Buffer {
  if (last === LF) return EMPTY;
  return last === CR ? INSERT_LF : CRLF;
}
