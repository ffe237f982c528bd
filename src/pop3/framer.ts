/**
 * Octets of a POP3 server cut into reply lines and messages (RFC 1939 §3), however the network split them. Pure. It never
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
  #data: Buffer = EMPTY;
  #at = 0;
  #lineStart = true;

  /** Takes what the network gave, for good: it is sliced, and stuffed dots are closed up where they are. */
  push(chunk: Buffer): void {
    this.#data = this.pending === 0 ? chunk : Buffer.concat([this.#data.subarray(this.#at), chunk]);
    this.#at = 0;
  }

  /** Octets that were taken and not yet given. */
  get pending(): number {
    return this.#data.length - this.#at;
  }

  /** All that is pending, without taking it. */
  peek(): Buffer {
    return this.#data.subarray(this.#at);
  }

  /**
   * The next line without its end, which is CRLF or, from sloppy servers, LF alone.
   * @returns undefined until a whole line is there
   * @throws FramingError if it is longer than `LINE_LIMIT`
   */
  readLine(): Buffer | undefined {
    const data = this.#data;
    const from = this.#at;
    const end = data.indexOf(LF, from);
    if ((end < 0 ? data.length : end) - from > LINE_LIMIT) {
      throw new FramingError(`a reply line of more than ${LINE_LIMIT} octets`);
    }
    if (end < 0) return undefined;
    this.#goOn(end + 1);
    return data.subarray(from, end > from && data[end - 1] === CR ? end - 1 : end);
  }

  /** What lies before `at` has been given away; a whole chunk is not kept any longer: there may be thousands of sessions. */
  #goOn(at: number): void {
    const isOver = at === this.#data.length;
    this.#at = isOver ? 0 : at;
    if (isOver) this.#data = EMPTY;
  }

  /** To be called before the first `readMessage` of each message. */
  startMessage(): void {
    this.#lineStart = true;
  }

  /**
   * Gives what is there of the current message, un-stuffed, in one piece at most: a slice of what was pushed, the pieces between
   * stuffed dots moved together. (A slice for each stuffed line would let a message of dots take thirty times its size.)
   * @returns true once the terminator was seen; its line is no part of the message
   */
  readMessage(take: (piece: Buffer) => void): boolean {
    const data = this.#data;
    let from = this.#at;
    if (this.#lineStart) {
      const verdict = judgeDot(data, from);
      if (verdict === 'more') return false;
      this.#lineStart = false;
      if (verdict === 'end') {
        this.#goOn(from + 3);
        return true;
      }
      if (verdict === 'stuffed') from += 1;
    }
    // Where the pieces between stuffed dots begin and end: from, to, from, to, ...
    let cuts: number[] | undefined;
    let ended = false;
    let end = -1;
    for (let search = from; end < 0;) {
      const at = data.indexOf(STUFFED, search);
      if (at < 0) {
        end = data.length - heldBack(data, search);
        this.#goOn(end);
        break;
      }
      const verdict = judgeDot(data, at + 2);
      if (verdict === 'more') {
        end = at;
        this.#at = at;
      } else if (verdict === 'end') {
        end = at + 2;
        this.#goOn(at + 5);
        ended = true;
      } else {
        search = at + 3;
        (cuts ??= [from]).push(at + 2, search);
      }
    }
    if (end > from) take(cuts ? closedUp(data, [...cuts, end]) : data.subarray(from, end));
    return ended;
  }
}

/** The pieces as one, in the octets where they lie: each has its end before the next one's beginning. */
function closedUp(data: Buffer, cuts: readonly number[]): Buffer {
  const [from = 0, first = 0] = cuts;
  let filled = first;
  for (let index = 2; index < cuts.length; index += 2) {
    const [begin = 0, end = 0] = [cuts[index], cuts[index + 1]];
    data.copyWithin(filled, begin, end);
    filled += end - begin;
  }
  return data.subarray(from, filled);
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
