/**
 * Commands and replies over one connection: writes what may be written, matches replies to commands in order, and ends
 * everything that waits when the connection does. It knows no command's meaning. One deadline runs at any time: that of
 * the reply that is awaited.
 */

import type { Socket } from 'node:net';
import { Failure, reasonOf } from '../failure.ts';
import { Pop3Error } from './error.ts';
import type { Pop3ErrorKind } from './error.ts';
import { Framer } from './framer.ts';
import { parseReply } from './reply.ts';
import type { Reply } from './reply.ts';
import { printableOctets } from '../untrusted.ts';

/** Commands that may be unanswered at a time. All servers seen take 200 in one write. */
const WINDOW = 200;
/** How long one message may take however it trickles. Milliseconds. */
const MESSAGE_TIME = 60 * 60 * 1000;

/** Any reply but -ERR. */
export type Accepted = Exclude<Reply, { kind: 'err' }>;

/** Where the octets of a message go. A promise makes the server wait. What is thrown ends the session. */
export interface MessageSink {
  write(chunk: Buffer): void | Promise<void>;
}

export interface Command {
  /** Without CRLF. */
  readonly line: string;
  /** For errors and transcripts: the line without its secrets. */
  readonly shown: string;
  /** What follows +OK. */
  readonly body:
    | { readonly kind: 'none' }
    | { readonly kind: 'lines'; readonly take: (line: Buffer) => void; readonly limit: number }
    | { readonly kind: 'message'; readonly sink: MessageSink };
}

interface Waiting extends Command {
  readonly resolve: (reply: Accepted) => void;
  readonly reject: (error: unknown) => void;
  reply: Accepted | undefined;
  lines: number;
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
  readonly #awaited: Waiting[] = [];
  readonly #unsent: Waiting[] = [];
  #flushing = false;
  #paused = false;
  #timer: NodeJS.Timeout | undefined;
  #end: Pop3Error | Failure | undefined;

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
    return this.#end;
  }

  /** Waits for the greeting, which no command asks for. */
  async greeting(): Promise<Accepted> {
    const { promise, resolve, reject } = Promise.withResolvers<Accepted>();
    this.#awaited.push(waiting({ line: '', shown: 'the greeting', body: { kind: 'none' } }, resolve, reject));
    this.#watch();
    this.#process();
    return await promise;
  }

  /** Sends a command, as soon as it may be. @throws Pop3Error: `refused` for -ERR, anything else ends the connection */
  async send(command: Command): Promise<Accepted> {
    if (this.#end) throw this.#end;
    // A line end in an argument would be a second command.
    if (/[\r\n]/.test(command.line)) throw new TypeError('a POP3 command of more than one line');
    const { promise, resolve, reject } = Promise.withResolvers<Accepted>();
    this.#unsent.push(waiting(command, resolve, reject));
    if (!this.#flushing) {
      this.#flushing = true;
      // All commands of one turn go in one write.
      queueMicrotask(() => this.#flush());
    }
    return await promise;
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
    return this.#socket;
  }

  /** Goes on over the secured socket; all that was read before is gone. */
  adopt(socket: Socket): void {
    this.#socket = socket;
    this.#framer = new Framer();
    this.#attach();
  }

  /** Ends the connection at once, and with it everything that waits. */
  close(reason: Failure): void {
    if (this.#end) return;
    this.#end = reason;
    clearTimeout(this.#timer);
    this.#socket.destroy();
    for (const { reject } of [...this.#awaited.splice(0), ...this.#unsent.splice(0)]) reject(reason);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#framer.push(chunk);
    this.#process();
  };
  readonly #onError = (error: Error): void => {
    this.close(this.#error('closed', `the connection failed: ${reasonOf(error)}`, undefined, error));
  };
  readonly #onClose = (): void => {
    const [first] = this.#awaited;
    const when = first ? ` while ${first.shown} was unanswered` : '';
    this.close(this.#error('closed', `the server closed the connection${when}`));
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
    const room = (this.pipelining ? WINDOW : 1) - this.#awaited.length;
    if (room <= 0 || this.#unsent.length === 0) return;
    const batch = this.#unsent.splice(0, room);
    const idle = this.#awaited.length === 0;
    this.#awaited.push(...batch);
    if (this.#options.log) for (const { shown } of batch) this.#options.log({ direction: 'C', line: shown });
    // Latin-1, since what a caller gave as octets must arrive as those octets.
    this.#socket.write(batch.map(({ line }) => `${line}\r\n`).join(''), 'latin1');
    if (idle) this.#watch();
  }

  /** One deadline: that of the first reply awaited. */
  #watch(): void {
    const [first] = this.#awaited;
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
    const [first] = this.#awaited;
    if (!first || this.#paused) return;
    const seconds = Math.round(this.#options.timeout / 1000);
    this.close(
      this.#error('timeout', `no answer to ${first.shown} within ${seconds} s`, undefined, undefined, first.shown),
    );
  }

  #process(): void {
    try {
      while (!this.#end && !this.#paused) {
        const [first] = this.#awaited;
        if (!first) {
          if (this.#framer.pending > 0 && this.#unsent.length === 0) this.#unasked();
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
    const { body } = first;
    if (body.kind === 'lines') {
      const line = this.#framer.readLine();
      if (!line) return false;
      this.#watch();
      if (line.length === 1 && line[0] === 0x2e) this.#finish(first);
      else {
        first.lines += 1;
        if (first.lines > body.limit)
          throw this.#error('protocol', `more than ${body.limit} lines in answer to ${first.shown}`);
        body.take(line[0] === 0x2e ? line.subarray(1) : line);
      }
      return true;
    }
    if (body.kind !== 'message') throw new Error('a reply without a body has one');
    let waits: Promise<void> | undefined;
    const done = this.#framer.readMessage((piece) => {
      const wait = body.sink.write(piece);
      if (wait) waits = waits ? bothOf(waits, wait) : wait;
    });
    if (performance.now() - first.since > MESSAGE_TIME) throw this.#error('timeout', `${first.shown} took too long`);
    if (waits) this.#pauseFor(waits, done ? first : undefined);
    else if (done) this.#finish(first);
    else this.#watch();
    return done && !waits;
  }

  #stepReply(first: Waiting): boolean {
    const line = this.#framer.readLine();
    if (!line) return false;
    const reply = parseReply(line);
    this.#options.log?.({ direction: 'S', line: printableOctets(line) });
    if (!reply)
      throw this.#error(
        'protocol',
        `no POP3 reply to ${first.shown}: ${printableOctets(line, 80)}`,
        'Check host, port and security: perhaps this is no POP3 server.',
      );
    if (reply.kind === 'err') {
      this.#awaited.shift();
      first.reject(
        new Pop3Error(`the server refused ${first.shown}: ${reply.said}`, {
          kind: 'refused',
          scope: 'message',
          server: this.#options.server,
          said: reply.said,
          command: first.shown,
          responseCode: reply.code,
        }),
      );
      this.#advance();
      return true;
    }
    first.reply = reply;
    if (reply.kind === 'continue' || first.body.kind === 'none') this.#finish(first);
    else if (first.body.kind === 'message') this.#framer.startMessage();
    return true;
  }

  #finish(first: Waiting): void {
    this.#awaited.shift();
    first.resolve(first.reply as Accepted);
    this.#advance();
  }

  #advance(): void {
    this.#watch();
    if (this.#unsent.length > 0) this.#flush();
  }

  /** Makes the server wait until the sink has caught up. */
  #pauseFor(wait: Promise<void>, finished: Waiting | undefined): void {
    this.#paused = true;
    this.#socket.pause();
    wait.then(
      () => {
        this.#paused = false;
        if (this.#end) return;
        if (finished) this.#finish(finished);
        else this.#watch();
        this.#socket.resume();
        this.#process();
      },
      (error: unknown) =>
        this.close(
          error instanceof Failure
            ? error
            : this.#error('closed', `the message could not be stored: ${reasonOf(error)}`, undefined, error),
        ),
    );
  }

  #unasked(): void {
    const line = this.#framer.readLine();
    if (line) throw this.#error('protocol', `the server said what nobody asked for: ${printableOctets(line, 80)}`);
  }

  #error(kind: Pop3ErrorKind, message: string, remedy?: string, cause?: unknown, command?: string): Pop3Error {
    return new Pop3Error(`${this.#options.server}: ${message}`, {
      kind,
      server: this.#options.server,
      cause,
      ...(remedy === undefined ? {} : { remedy }),
      ...(command === undefined ? {} : { command }),
    });
  }
}

async function bothOf(first: Promise<void>, second: Promise<void>): Promise<void> {
  await Promise.all([first, second]);
}

function waiting(command: Command, resolve: Waiting['resolve'], reject: Waiting['reject']): Waiting {
  return { ...command, resolve, reject, reply: undefined, lines: 0, since: 0 };
}
