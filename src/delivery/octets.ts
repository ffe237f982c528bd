/**
 * Line ends of a message on the way through SMTP (pure). Only CRLF may reach the wire: a receiver that takes a lone CR or
 * LF for a line end would see the end of the message, and commands behind it, where none is (SMTP smuggling).
 */

const CR = 0x0d;
const LF = 0x0a;
const CRLF = Buffer.from('\r\n');
const EMPTY = Buffer.alloc(0);

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

/** `LineEndNormalizer` for octets that are at hand. */
export function normalizeLineEnds(octets: Buffer): Buffer {
  const normalizer = new LineEndNormalizer();
  const body = normalizer.push(octets);
  const end = normalizer.end();
  return end.length === 0 ? body : Buffer.concat([body, end]);
}

function lineEndMissing(last: number): Buffer {
  if (last === LF) return EMPTY;
  return last === CR ? CRLF.subarray(1) : CRLF;
}
