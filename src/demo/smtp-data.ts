/** What stands between 354 and the dot alone on its line (RFC 5321 §4.1.1.4, §4.5.2): collected, then un-stuffed. Pure. */

const END = Buffer.from('\r\n.\r\n');
const STUFFED = Buffer.from('\r\n.');

export class SmtpData {
  readonly #limit: number;
  readonly #chunks: Buffer[] = [];
  #size = 0;
  /** The last octets before the next chunk: the end may lie across. The line of DATA ended with the first CRLF. */
  #tail: Buffer = Buffer.from('\r\n');

  /** @param limit octets that are kept; of a longer message one more is, so that its length tells */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @returns what follows the end; undefined if it has not come yet */
  take(chunk: Buffer): Buffer | undefined {
    const joined = Buffer.concat([this.#tail, chunk]);
    const at = joined.indexOf(END);
    if (at === -1) {
      this.#keep(chunk);
      this.#tail = joined.subarray(1 - END.length);
      return undefined;
    }
    const end = at + END.length - this.#tail.length;
    this.#keep(chunk.subarray(0, end));
    return chunk.subarray(end);
  }

  /** The message, once its end has come. */
  octets(): Buffer {
    const whole = Buffer.concat([Buffer.from('\r\n'), ...this.#chunks]);
    // Cut off too early, it is too long whatever it ends with.
    const stuffed = this.#size > this.#limit ? whole : whole.subarray(0, whole.length - 3);
    const pieces: Buffer[] = [];
    let from = 0;
    for (let at = stuffed.indexOf(STUFFED); at !== -1; at = stuffed.indexOf(STUFFED, from)) {
      pieces.push(stuffed.subarray(from, at + 2));
      from = at + 3;
    }
    pieces.push(stuffed.subarray(from));
    return Buffer.concat(pieces).subarray(2);
  }

  #keep(chunk: Buffer): void {
    this.#size += chunk.length;
    const room = this.#limit + 1 + END.length - (this.#size - chunk.length);
    if (room > 0) this.#chunks.push(chunk.subarray(0, room));
  }
}
