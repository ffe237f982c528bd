/**
 * Octets of a POP3 server cut into reply lines and messages (RFC 1939 §3), however the network split them. No I/O. It never
 * ends a message but at CRLF "." CRLF, never changes an octet but the stuffed dots, and never keeps more than one line.
 */

/** RFC 2449 §4 says 512; servers are known to write more, none this much. Octets. */
export const LINE_LIMIT = 8192;

const LF = 0x0a;
const CR = 0x0d;
const DOT = 0x2e;
const EMPTY = Buffer.alloc(0);
const STUFFED = Buffer.from('\r\n.');

/** The server does not keep to the framing; the connection is of no more use. */
export class FramingError extends Error {
  override readonly name = 'FramingError';
}

export class Framer {
  #rest: Buffer = EMPTY;
  #lineStart = true;

  /** Takes what the network gave. The buffer is kept and sliced, never changed. */
  push(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
  }

  /** Octets that were taken and not yet given. */
  get pending(): number {
    return this.#rest.length;
  }

  /**
   * The next line without its end, which is CRLF or, from sloppy servers, LF alone.
   * @returns undefined until a whole line is there
   * @throws FramingError if it is longer than `LINE_LIMIT`
   */
  readLine(): Buffer | undefined {
    const end = this.#rest.indexOf(LF);
    if (end > LINE_LIMIT || (end < 0 && this.#rest.length > LINE_LIMIT)) {
      throw new FramingError(`a reply line of more than ${LINE_LIMIT} octets`);
    }
    if (end < 0) return undefined;
    const line = this.#rest.subarray(0, this.#rest[end - 1] === CR ? end - 1 : end);
    this.#rest = this.#rest.subarray(end + 1);
    return line;
  }

  /** To be called before the first `readMessage` of each message. */
  startMessage(): void {
    this.#lineStart = true;
  }

  /**
   * Gives what is there of the current message, un-stuffed, in pieces that are slices of what was pushed.
   * @returns true once the terminator was seen; its line is no part of the message
   */
  readMessage(take: (piece: Buffer) => void): boolean {
    const data = this.#rest;
    let from = 0;
    if (this.#lineStart) {
      const verdict = judgeDot(data, 0);
      if (verdict === 'more') return false;
      this.#lineStart = false;
      if (verdict === 'end') {
        this.#rest = data.subarray(3);
        return true;
      }
      if (verdict === 'stuffed') from = 1;
    }
    for (;;) {
      const at = data.indexOf(STUFFED, from);
      if (at < 0) break;
      const verdict = judgeDot(data, at + 2);
      if (verdict === 'more') {
        if (at > from) take(data.subarray(from, at));
        this.#rest = data.subarray(at);
        return false;
      }
      take(data.subarray(from, at + 2));
      if (verdict === 'end') {
        this.#rest = data.subarray(at + 5);
        return true;
      }
      from = at + 3;
    }
    const keep = heldBack(data, from);
    if (data.length - keep > from) take(data.subarray(from, data.length - keep));
    this.#rest = data.subarray(data.length - keep);
    return false;
  }
}

/** What the octets at the start of a line are: the terminator, a stuffed dot, a plain line, or too few to tell. */
function judgeDot(data: Buffer, at: number): 'end' | 'stuffed' | 'plain' | 'more' {
  if (data.length <= at) return 'more';
  if (data[at] !== DOT) return 'plain';
  if (data.length === at + 1) return 'more';
  if (data[at + 1] !== CR) return 'stuffed';
  if (data.length === at + 2) return 'more';
  return data[at + 2] === LF ? 'end' : 'stuffed';
}

/** How many octets at the end may be the start of CRLF ".". */
function heldBack(data: Buffer, from: number): number {
  const end = data.length;
  if (end - from >= 2 && data[end - 2] === CR && data[end - 1] === LF) return 2;
  return end > from && data[end - 1] === CR ? 1 : 0;
}
