/**
 * Commands and replies over one connection: writes what may be written, matches replies to commands in order, and ends
 * everything that waits when the connection does. It knows no command's meaning. One deadline runs at any time: that of
 * the reply that is awaited.
 */

import type { Socket } from 'node:net';
import { Failure, reasonOf } from '../failure.ts';
import { printableOctets } from '../untrusted.ts';
import { encodeCommand, NO_BODY } from './command.ts';
import type { Body, Command } from './command.ts';
import { Pop3Error } from './error.ts';
import type { Pop3ErrorDetails, Pop3ErrorKind } from './error.ts';
import { Fifo } from './fifo.ts';
import { Framer } from './framer.ts';
import { parseReply } from './reply.ts';
import type { Reply } from './reply.ts';

/**
 * Octets of commands that may be unanswered at a time: some ten thousand commands. RFC 2449 §6.6 asks for a window where
 * writing blocks, and here nothing does: answers are read whether or not the server reads.
 */
const WINDOW = 128 * 1024;
/** How long one message or list may take however it trickles, our own pauses aside. Milliseconds. */
const BODY_TIME = 60 * 60 * 1000;
/** How much of a message that nobody wants any more is read for the sake of the session. Octets. */
const PASS_OVER = 64 * 1024 * 1024;

/** Refused, these are one message's matter; anything else is the maildrop's. */
const NAMES_A_MESSAGE = /^(RETR|TOP|DELE|UIDL|LIST) \d/;

/** Any reply but -ERR. */
export type Accepted = Exclude<Reply, { kind: 'err' }>;

interface Waiting {
  readonly command: Command;
  readonly wire: string;
  readonly resolve: (reply: Accepted) => void;
  readonly reject: (error: unknown) => void;
  reply: Accepted | undefined;
  /** Set when the sink has failed: the rest is passed over, then this is what the caller gets. */
  failure: { readonly error: unknown } | undefined;
  lines: number;
  octets: number;
  since: number;
}

export interface EngineOptions {
  /** `host:port`, for errors. */
  readonly server: string;
  /** The longest wait for a reply, or for more of one. Milliseconds. */
  readonly timeout: number;
  readonly log?: ((event: { readonly direction: 'C' | 'S'; readonly line: string }) => void) | undefined;
}

export class Engine {
  /** Set once CAPA and the state allow it. */
  pipelining = false;
  readonly #options: EngineOptions;
  #socket: Socket;
  #framer = new Framer();
  readonly #awaited = new Fifo<Waiting>();
  readonly #unsent = new Fifo<Waiting>();
  #onTheWay = 0;
  #flushing = false;
  #paused = false;
  #hungUp = false;
  #timer: NodeJS.Timeout | undefined;
  #end: Failure | (() => Failure) | undefined;

  constructor(socket: Socket, options: EngineOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#attach();
  }

  get closed(): boolean {
    return this.#end !== undefined;
  }

  /** Why it is closed. */
  get end(): Failure | undefined {
    if (typeof this.#end === 'function') this.#end = this.#end();
    return this.#end;
  }

  /** Waits for the greeting, which no command asks for. */
  async greeting(): Promise<Accepted> {
    return await new Promise((resolve, reject) => {
      this.#awaited.push(waiting({ line: '', shown: 'the greeting', body: NO_BODY }, '', resolve, reject));
      this.#watch();
      this.#process();
    });
  }

  /** Sends a command, as soon as it may be. @throws Pop3Error: `refused` for -ERR, anything else ends the connection */
  send(command: Command): Promise<Accepted> {
    return new Promise((resolve, reject) => {
      if (this.end) throw this.end;
      this.#unsent.push(waiting(command, encodeCommand(command), resolve, reject));
      if (this.#flushing) return;
      this.#flushing = true;
      // All commands of one turn go in one write: where answers are awaited, also those that are sent a few promises later.
      if (this.#awaited.length === 0) queueMicrotask(() => this.#flush());
      else process.nextTick(() => this.#flush());
    });
  }

  /**
   * Takes the plain socket away for the TLS handshake.
   * @throws Pop3Error if the server has sent anything beyond its reply: it might be an attacker's (RFC 2595 §4)
   */
  release(): Socket {
    if (this.#framer.pending > 0 || this.#awaited.length + this.#unsent.length > 0) {
      const error = this.#error(
        'tls',
        'the server sent plain text behind its answer to STLS',
        'Somebody may be tampering with the connection: use port 995 with security: tls.',
      );
      this.close(error);
      throw error;
    }
    this.#detach();
    // What might come in the clear before the handshake is then fed into it, and breaks it.
    this.#socket.pause();
    return this.#socket;
  }

  /** Goes on over the secured socket; all that was read before is gone. */
  adopt(socket: Socket): void {
    this.#socket = socket;
    this.#framer = new Framer();
    this.#attach();
  }

  /** Ends the connection at once, and with it everything that waits. @param reason a function where as a rule nobody asks for it */
  close(reason: Failure | (() => Failure)): void {
    if (this.#end) return;
    this.#end = reason;
    clearTimeout(this.#timer);
    this.#socket.destroy();
    for (const { reject } of [...this.#awaited.drain(), ...this.#unsent.drain()]) reject(this.end);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#framer.push(chunk);
    this.#process();
  };
  readonly #onError = (error: Error): void => {
    this.close(this.#error('closed', `the connection failed: ${reasonOf(error)}`, undefined, error));
  };
  readonly #onClose = (): void => {
    if (this.#end) return;
    // What has come already still counts: a paused socket may say that it has ended before all is read.
    this.#hungUp = true;
    if (this.#paused) return;
    const { first } = this.#awaited;
    const when = first ? ` ${first.reply ? 'in the middle of' : 'instead of'} its answer to ${shownOf(first)}` : '';
    this.close(this.#error('closed', `the server closed the connection${when}`, undefined, undefined, first));
  };

  #attach(): void {
    this.#socket
      .on('data', this.#onData)
      .on('error', this.#onError)
      .on('close', this.#onClose)
      .on('end', this.#onClose);
  }

  #detach(): void {
    this.#socket
      .off('data', this.#onData)
      .off('error', this.#onError)
      .off('close', this.#onClose)
      .off('end', this.#onClose);
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#end) return;
    const idle = this.#awaited.length === 0;
    // Refilled when half is left, so that a window is a few writes and not one a command.
    if (this.#unsent.length === 0 || (this.pipelining ? this.#onTheWay > WINDOW / 2 : !idle)) return;
    let wires = '';
    for (let next = this.#unsent.first; next; next = this.#unsent.first) {
      const octets = next.wire.length;
      if (wires !== '' && (!this.pipelining || this.#onTheWay + octets > WINDOW)) break;
      wires += next.wire;
      this.#onTheWay += octets;
      this.#awaited.push(next);
      this.#unsent.shift();
      this.#options.log?.({ direction: 'C', line: next.command.shown });
    }
    this.#socket.write(wires);
    if (idle) this.#watch();
  }

  /** One deadline: that of the first reply awaited. */
  #watch(): void {
    const { first } = this.#awaited;
    if (!first || this.#paused) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      return;
    }
    first.since = first.since === 0 ? performance.now() : first.since;
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#expire(), this.#options.timeout);
    else this.#timer.refresh();
  }

  #expire(): void {
    const { first } = this.#awaited;
    if (!first || this.#paused) return;
    const seconds = Math.round(this.#options.timeout / 1000);
    const what = first.reply ? `the answer to ${shownOf(first)} did not go on` : `no answer to ${shownOf(first)}`;
    this.close(this.#error('timeout', `${what} within ${seconds} s`, undefined, undefined, first));
  }

  #process(): void {
    try {
      while (!this.#end && !this.#paused) {
        const { first } = this.#awaited;
        if (!first) {
          if (this.#framer.pending > 0) this.#unasked();
          return;
        }
        if (!this.#step(first)) return;
      }
    } catch (error) {
      this.close(error instanceof Failure ? error : this.#error('protocol', reasonOf(error), undefined, error));
    }
  }

  /** Reads what the first command awaits. @returns false if more octets are needed */
  #step(first: Waiting): boolean {
    if (first.reply === undefined) return this.#stepReply(first);
    const { body } = first.command;
    if (performance.now() - first.since > BODY_TIME)
      throw this.#error('timeout', `the answer to ${shownOf(first)} takes too long`, undefined, undefined, first);
    return body.kind === 'lines' ? this.#stepLines(first, body) : this.#stepMessage(first);
  }

  #stepLines(first: Waiting, { take, lines, octets }: Body & { kind: 'lines' }): boolean {
    for (let line = this.#framer.readLine(); line; line = this.#framer.readLine()) {
      const isDot = line[0] === 0x2e;
      if (isDot && line.length === 1) {
        this.#finish(first);
        return true;
      }
      first.lines += 1;
      first.octets += line.length;
      if (first.lines > lines || first.octets > octets)
        throw this.#error('protocol', `too long a list in answer to ${shownOf(first)}`);
      take(isDot ? line.subarray(1) : line);
    }
    this.#watch();
    return false;
  }

  #stepMessage(first: Waiting): boolean {
    let wait: Promise<void> | undefined;
    const done = this.#framer.readMessage((piece) => {
      wait = this.#give(first, piece);
    });
    if (wait) this.#pauseFor(wait, first, done);
    else if (done) this.#finish(first);
    else this.#watch();
    return done && !wait;
  }

  /** Gives a piece to the sink, or passes it over if the sink has failed. */
  #give(first: Waiting, piece: Buffer): Promise<void> | undefined {
    const { body } = first.command;
    if (body.kind !== 'message') throw new TypeError(`${first.command.shown} asks for no message`);
    if (first.failure) {
      first.octets += piece.length;
      if (first.octets > PASS_OVER)
        throw this.#error('closed', `the rest of ${shownOf(first)} is too long to pass over`);
      return undefined;
    }
    try {
      return body.sink.write(piece) ?? undefined;
    } catch (error) {
      first.failure = { error };
      return undefined;
    }
  }

  #stepReply(first: Waiting): boolean {
    const line = this.#framer.readLine();
    if (!line) return false;
    this.#options.log?.({ direction: 'S', line: printableOctets(line) });
    const reply = parseReply(line);
    const { body, isAuth = false, shown } = first.command;
    // A challenge is an answer to AUTH alone: taken for +OK it would turn a message into an empty one.
    if (!reply || (reply.kind === 'continue' && !isAuth))
      throw this.#error(
        'protocol',
        `no POP3 reply to ${shown}: ${printableOctets(line, 80)}`,
        'Check host, port and security: perhaps this is no POP3 server.',
      );
    if (reply.kind === 'err') {
      this.#settled(first);
      first.reject(this.#refusal(reply, line, shown));
      return true;
    }
    first.reply = reply;
    if (reply.kind === 'continue' || body.kind === 'none') this.#finish(first);
    else if (body.kind === 'message') this.#framer.startMessage();
    return true;
  }

  #finish(first: Waiting): void {
    this.#settled(first);
    if (first.failure) first.reject(first.failure.error);
    else first.resolve(first.reply as Accepted);
  }

  #settled({ wire }: Waiting): void {
    this.#awaited.shift();
    this.#onTheWay -= wire.length;
    this.#watch();
    if (this.#unsent.length > 0) this.#flush();
  }

  /** Makes the server wait until the sink has caught up. */
  #pauseFor(wait: Promise<void>, first: Waiting, done: boolean): void {
    this.#paused = true;
    this.#socket.pause();
    const began = performance.now();
    const goOn = (): void => {
      this.#paused = false;
      if (this.#end) return;
      first.since += performance.now() - began;
      if (done) this.#finish(first);
      else this.#watch();
      this.#process();
      if (this.#paused) return;
      if (this.#hungUp) this.#onClose();
      else this.#socket.resume();
    };
    wait.then(goOn, (error: unknown) => {
      first.failure = { error };
      goOn();
    });
  }

  /** What comes when nothing is awaited answers nothing: it must not be taken for the answer to the next command. */
  #unasked(): void {
    const octets = this.#framer.peek();
    const end = octets.indexOf(0x0a);
    const line = (end < 0 ? octets : octets.subarray(0, end)).subarray(0, 512);
    this.#options.log?.({ direction: 'S', line: printableOctets(line) });
    const reply = parseReply(line);
    if (reply?.kind !== 'err')
      throw this.#error('protocol', `the server said what nobody asked for: ${printableOctets(line, 80)}`);
    throw new Pop3Error(`${this.#options.server} ended the session: ${saidIn(line)}`, {
      kind: 'closed',
      server: this.#options.server,
      said: saidIn(line),
      responseCode: reply.code,
    });
  }

  #refusal(reply: Reply & { kind: 'err' }, line: Buffer, shown: string): Pop3Error {
    const said = saidIn(line);
    const scope = NAMES_A_MESSAGE.test(shown) ? 'message' : 'account';
    const details: Pop3ErrorDetails = { kind: 'refused', scope, server: this.#options.server, said };
    const message = `the server refused ${shown}: ${said}`;
    return new Pop3Error(message, { ...details, command: shown, responseCode: reply.code });
  }

  #error(kind: Pop3ErrorKind, message: string, remedy?: string, cause?: unknown, first?: Waiting): Pop3Error {
    return new Pop3Error(`${this.#options.server}: ${message}`, {
      kind,
      server: this.#options.server,
      cause,
      ...(remedy === undefined ? {} : { remedy }),
      ...(first === undefined ? {} : { command: first.command.shown }),
    });
  }
}

function waiting(command: Command, wire: string, resolve: Waiting['resolve'], reject: Waiting['reject']): Waiting {
  return { command, wire, resolve, reject, reply: undefined, failure: undefined, lines: 0, octets: 0, since: 0 };
}

function shownOf({ command }: Waiting): string {
  return command.shown;
}

function saidIn(line: Buffer): string {
  return printableOctets(line).trimEnd();
}
