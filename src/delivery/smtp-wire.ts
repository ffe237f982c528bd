/**
 * An SMTP connection in command state: lines out, replies in, in order (RFC 5321 §4.2). It knows no command's meaning. A reply
 * without end ends the connection, and one that nobody asked for makes it unusable: no further reply could be trusted.
 */

import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { reasonOf } from '../failure.ts';
import { codeOf } from './smtp-outcome.ts';
import type { Reply } from './smtp-outcome.ts';

/** A reply is a few lines; a server that sends more than this in one is broken or means harm. Octets. */
export const REPLY_LIMIT = 64 * 1024;
/** More replies than any transaction asks for. */
const REPLIES_AHEAD = 10_000;
const QUIT_TIMEOUT = 5_000;
const LF = 0x0a;
const NOTHING: Buffer = Buffer.alloc(0);
/** What is less than this waits a moment for what goes with it. Octets. */
const SMALL = 32 * 1024;

interface Waiting {
  readonly count: number;
  readonly resolve: (replies: readonly Reply[]) => void;
}

export class Wire {
  readonly #socket: Socket;
  /** Why the connection is over; undefined while it is not. */
  #lost: string | undefined;
  #rest: Buffer = NOTHING;
  /** Of the reply that has not ended. */
  #lines: string[] = [];
  #size = 0;
  #replies: Reply[] = [];
  /** In the order in which their replies will come. */
  readonly #waiting: Waiting[] = [];
  #resume: (() => void) | undefined;
  /** What goes out together, in a moment. */
  #gathered: (Buffer | string)[] = [];
  #isQuitting = false;
  #quitTimer: NodeJS.Timeout | undefined;

  /**
   * Takes the socket over, and every listener off it.
   * @param timeout how long nothing may happen while a reply is waited for. Milliseconds
   */
  constructor(socket: Socket, timeout: number) {
    this.#socket = socket;
    for (const event of ['data', 'error', 'end', 'close', 'timeout']) socket.removeAllListeners(event);
    socket.setTimeout(timeout);
    socket.on('data', (chunk: Buffer) => {
      this.#take(chunk);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.end(`the connection broke: ${error.code ?? reasonOf(error)}`);
    });
    socket.on('timeout', () => {
      // Silence is a fault only while something is to be said: who keeps idle connections bounds their time.
      if (this.isPending || this.#resume) this.end('the server did not answer in time');
    });
    socket.on('end', () => {
      this.end('the connection was closed');
    });
    socket.on('close', () => {
      this.end('the connection was closed');
    });
    socket.on('drain', () => {
      this.#goOn();
    });
    if (socket.destroyed || socket.readableEnded) this.end('the connection was closed');
  }

  get lost(): string | undefined {
    return this.#lost;
  }

  get isEncrypted(): boolean {
    return this.#socket instanceof TLSSocket;
  }

  /** How the connection is protected, for people: `TLSv1.3`, or `no TLS`. */
  get protection(): string {
    return this.#socket instanceof TLSSocket ? (this.#socket.getProtocol() ?? 'TLS') : 'no TLS';
  }

  /** Nothing has ended it, and no reply has come that nobody asked for. */
  get isUsable(): boolean {
    return this.#lost === undefined && !this.#isQuitting && (this.isPending || this.#replies.length === 0);
  }

  /** Replies are waited for. */
  get isPending(): boolean {
    return this.#waiting.length > 0;
  }

  /** A reply has come of those that were asked for, where only those of one transaction are waited for. */
  get isAnswered(): boolean {
    return !this.isPending || this.#replies.length > 0;
  }

  /**
   * Writes. What is small, and is written before the work that is ready has been done, goes out as one: a message and what announces
   * the next.
   * @returns undefined if more may be written at once; else it resolves when it may, or the connection is over, or (see
   * `isAnswered`) a reply has come
   */
  write(octets: Buffer | string): Promise<void> | undefined {
    if (this.#lost !== undefined) return undefined;
    if (octets.length < SMALL) {
      if (this.#gathered.push(octets) === 1) process.nextTick(this.#send);
      return undefined;
    }
    this.#send();
    if (this.#socket.write(octets)) return undefined;
    return new Promise<void>((resolve) => {
      this.#resume = resolve;
    });
  }

  /** Writes. Resolves when the octets are no longer needed, or the connection is over, or (see `isAnswered`) a reply has come. */
  async flush(octets: Buffer): Promise<void> {
    if (this.#lost !== undefined) return;
    this.#send();
    await new Promise<void>((resolve) => {
      this.#resume = resolve;
      this.#socket.write(octets, () => {
        if (this.#resume === resolve) this.#goOn();
      });
    });
  }

  readonly #send = (): void => {
    const [first, ...others] = this.#gathered;
    if (first === undefined || this.#lost !== undefined) return;
    this.#gathered = [];
    // One piece is cheaper to write than many, even where it must be made.
    this.#socket.write(others.length === 0 ? first : joined([first, ...others]));
  };

  /** The replies behind those that are waited for already: fewer if the connection ends before, or the server says with 421 that it will end it. */
  replies(count: number): Promise<readonly Reply[]> {
    return new Promise((resolve) => {
      this.#waiting.push({ count, resolve });
      if (this.#lost !== undefined || (this.#waiting.length === 1 && this.#replies.length >= count)) this.#settle();
    });
  }

  /** Closes at once. The first reason is the one that counts. */
  end(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lost = reason;
    clearTimeout(this.#quitTimer);
    this.#socket.destroy();
    this.#goOn();
    while (this.isPending) this.#settle();
  }

  /** Says QUIT once what is waited for has come, and closes, without making anybody wait for it. */
  quit(): void {
    if (this.#lost !== undefined || this.#isQuitting) return;
    this.#isQuitting = true;
    if (!this.isPending) this.#sayQuit();
  }

  #sayQuit(): void {
    this.#quitTimer = setTimeout(() => {
      this.end('closed');
    }, QUIT_TIMEOUT);
    this.#send();
    this.#socket.write('QUIT\r\n');
    void this.replies(1).then(() => {
      this.end('closed');
    });
  }

  #take(chunk: Buffer): void {
    const octets = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let from = 0;
    for (let end = octets.indexOf(LF); end >= 0; end = octets.indexOf(LF, from)) {
      this.#takeLine(octets, from, end);
      from = end + 1;
    }
    this.#rest = from === octets.length ? NOTHING : octets.subarray(from);
    if (this.#size + this.#rest.length > REPLY_LIMIT) this.end('the server sent a reply without end');
  }

  #takeLine(octets: Buffer, from: number, end: number): void {
    const line = decode(octets, from, end).trimEnd();
    this.#size += end - from + 1;
    if (line === '' || this.#lost !== undefined) return;
    if (line[3] === '-' && /^\d{3}-/.test(line)) {
      this.#lines.push(line);
      return;
    }
    let text = line;
    if (this.#lines.length > 0) {
      text = [...this.#lines, line].join('\n');
      this.#lines = [];
    }
    const reply = { code: codeOf(text), text };
    this.#size = 0;
    this.#replies.push(reply);
    if (this.#replies.length > REPLIES_AHEAD) this.end('the server sent replies that nobody asked for');
    // RFC 5321 §3.8: behind 421 the server hangs up, whatever it was the answer to.
    else if (this.#replies.length === this.#waiting[0]?.count || reply.code === 421) this.#settle();
    this.#goOn();
  }

  #settle(): void {
    const waiting = this.#waiting.shift();
    if (!waiting) return;
    waiting.resolve(this.#replies.splice(0, waiting.count));
    if (this.#isQuitting && !this.isPending && this.#quitTimer === undefined && this.#lost === undefined)
      this.#sayQuit();
  }

  #goOn(): void {
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }
}

/** Replies are UTF-8 where they may be (RFC 6531 §3.7.4.2), else shown octet by octet. */
function decode(octets: Buffer, from: number, end: number): string {
  const text = octets.toString('utf8', from, end);
  return text.includes('\ufffd') ? octets.toString('latin1', from, end) : text;
}

function joined(pieces: readonly (Buffer | string)[]): Buffer {
  const all = Buffer.allocUnsafe(pieces.reduce((sum, piece) => sum + Buffer.byteLength(piece), 0));
  let at = 0;
  for (const piece of pieces) at += typeof piece === 'string' ? all.write(piece, at) : piece.copy(all, at);
  return all;
}
