/**
 * A POP3 client (RFC 1939, 2449, 2595, 5034): AUTHORIZATION in `open`, then the TRANSACTION state as methods, then UPDATE by
 * `quit`. Calls that are not awaited one by one are pipelined where the server allows it, and answered in order.
 *
 * @example
 * const session = await Pop3Client.open({ host: 'pop.example.com', port: 995, security: 'tls', user: 'jane',
 *   password: async () => 'secret', timeout: 60_000 });
 * const { entries } = await session.listing();
 * for (const { messageNumber } of entries) {
 *   await pipeline(session.retrieveStream(messageNumber), createWriteStream(`${messageNumber}.eml`));
 *   await session.delete(messageNumber);
 * }
 * await session.quit(); // only now are they deleted
 */

import { Readable } from 'node:stream';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Security, TlsConfig } from '../config/types.ts';
import type { Failure } from '../failure.ts';
import { reasonOf } from '../failure.ts';
import { authenticate } from './authenticate.ts';
import { parseCapabilities, UNANNOUNCED } from './capabilities.ts';
import type { Capabilities } from './capabilities.ts';
import { channelBinding } from './channel-binding.ts';
import { connectSocket } from './connect.ts';
import { NO_BODY } from './command.ts';
import type { MessageSink } from './command.ts';
import { Engine } from './engine.ts';
import type { Accepted } from './engine.ts';
import { Pop3Error } from './error.ts';
import { readListing } from './listing.ts';
import type { Listing } from './listing.ts';
import { parseNumbered, parseStat } from './reply.ts';
import { SessionCache } from './session-cache.ts';
import { upgradeTls } from './tls.ts';

export interface Pop3Options {
  readonly host: string;
  readonly port: number;
  readonly security: Security;
  readonly tls?: TlsConfig;
  readonly user: string;
  /** Asked when it is needed, never kept. */
  readonly password?: () => Promise<string>;
  readonly accessToken?: () => Promise<string>;
  /** A SASL mechanism, `apop` or `user`; else the strongest that both sides know. */
  readonly mechanism?: string;
  /**
   * Asks for internationalised mail as it is (RFC 6856) where the server offers that; default true. Without it servers give a
   * surrogate: Courier wraps every message whose header is not ASCII, so that it is not the message any more.
   */
  readonly utf8?: boolean;
  /** The longest wait for a reply, or for more of one; and for connecting and TLS together. Milliseconds. */
  readonly timeout: number;
  readonly proxy?: string;
  readonly sourceAddress?: string;
  /** Ends the session at once. */
  readonly signal?: AbortSignal;
  /** Every line but those of messages, secrets replaced. */
  readonly log?: (event: { readonly direction: 'C' | 'S'; readonly line: string }) => void;
}

/** What CAPA may say. */
const CAPABILITIES = { lines: 200, octets: 64 * 1024 };
/** One for the process, so that a poll every minute is no full handshake every minute. */
const sessionCache = new SessionCache();
const NO_TLS: TlsConfig = {
  caFile: undefined,
  fingerprint: undefined,
  serverName: undefined,
  certFile: undefined,
  keyFile: undefined,
};

export class Pop3Client {
  /** `host:port`. */
  readonly server: string;
  readonly #engine: Engine;
  #capabilities: Capabilities = UNANNOUNCED;
  #unlisten: (() => void) | undefined;

  private constructor(engine: Engine, server: string) {
    this.#engine = engine;
    this.server = server;
  }

  /** Connects, secures, asks for capabilities and logs in. @throws Pop3Error */
  static async open(options: Pop3Options): Promise<Pop3Client> {
    const { host, port, security, timeout, signal } = options;
    const server = `${host}:${port}`;
    const tls = options.tls ?? NO_TLS;
    const began = performance.now();
    const left = (): number => Math.max(1, timeout - (performance.now() - began));
    const socket = await connectSocket({
      host,
      port,
      timeout,
      signal,
      sourceAddress: options.sourceAddress,
      proxy: options.proxy,
    });
    const secured =
      security === 'tls'
        ? await upgradeTls(socket, { host, port, tls, timeout: left(), signal, sessionCache })
        : socket;
    const client = new Pop3Client(new Engine(secured, { server, timeout, log: options.log }), server);
    try {
      client.#endWith(signal);
      await client.#begin(options, secured, tls);
      return client;
    } catch (error) {
      client.abort();
      throw error;
    }
  }

  /** As valid in the present state. */
  get capabilities(): Capabilities {
    return this.#capabilities;
  }

  get closed(): boolean {
    return this.#engine.closed;
  }

  /** How many messages, and how many octets the server takes them to have. */
  async stat(): Promise<{ count: number; octets: number }> {
    const reply = await this.#ask('STAT');
    const stat = parseStat(textOf(reply));
    if (!stat) throw this.#protocol('STAT was not answered with two numbers');
    return stat;
  }

  /** All messages: UIDL and LIST in one go. A server without UIDL gives a listing without unique-ids. */
  async listing(): Promise<Listing> {
    return await readListing(this.#engine, this.#capabilities, this.server);
  }

  /** The unique-id of one message; undefined if the server does not say. */
  async uniqueId(messageNumber: number): Promise<string | undefined> {
    try {
      const reply = await this.#ask(`UIDL ${number(messageNumber)}`);
      return parseNumbered(Buffer.from(textOf(reply).trim(), 'latin1'))?.rest || undefined;
    } catch (error) {
      if (error instanceof Pop3Error && error.kind === 'refused') return undefined;
      throw error;
    }
  }

  /** The header and the first lines of the body, un-stuffed, cut at `limit` octets. */
  async top(messageNumber: number, lines: number, limit = 1024 * 1024): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let kept = 0;
    const sink: MessageSink = {
      write(piece) {
        if (kept < limit) pieces.push(piece.subarray(0, limit - kept));
        kept += piece.length;
      },
    };
    await this.#fetch(`TOP ${number(messageNumber)} ${number(lines)}`, sink);
    return Buffer.concat(pieces);
  }

  /**
   * Gives a message to a sink, un-stuffed. Resolves only once its terminator has been seen.
   * @returns its octets
   * @throws Pop3Error: `refused` if the server has no such message (the session goes on), else the session is over
   */
  async retrieve(messageNumber: number, sink: MessageSink): Promise<number> {
    let octets = 0;
    const write = (piece: Buffer): void | Promise<void> => {
      octets += piece.length;
      return sink.write(piece);
    };
    await this.#fetch(`RETR ${number(messageNumber)}`, { write });
    return octets;
  }

  /** The same as a stream, which ends only if the terminator was seen and fails otherwise. */
  retrieveStream(messageNumber: number): Readable {
    let more: (() => void) | undefined;
    const stream = new Readable({
      read() {
        more?.();
        more = undefined;
      },
    });
    const write = (piece: Buffer): void | Promise<void> => {
      if (stream.destroyed) throw new Error('the stream was destroyed before the end of the message');
      if (stream.push(piece)) return undefined;
      return new Promise((resolve) => {
        more = resolve;
        stream.once('close', resolve);
      });
    };
    this.retrieve(messageNumber, { write }).then(
      () => stream.push(null),
      (error: unknown) => stream.destroy(error instanceof Error ? error : new Error(reasonOf(error))),
    );
    return stream;
  }

  /** The size of one message as LIST says; undefined if the server does not. */
  async list(messageNumber: number): Promise<number | undefined> {
    const reply = await this.#ask(`LIST ${number(messageNumber)}`);
    return parseStat(textOf(reply))?.octets;
  }

  /** Marks a message as deleted: it goes at `quit`, and not before. */
  async delete(messageNumber: number): Promise<void> {
    await this.#ask(`DELE ${number(messageNumber)}`);
  }

  /** Unmarks all. */
  async reset(): Promise<void> {
    await this.#ask('RSET');
  }

  /** The language of what the server says (RFC 6856 §3): a tag, `*` for the server's choice. Nothing here depends on it. */
  async language(tag: string): Promise<void> {
    await this.#ask(`LANG ${tag}`);
  }

  /** Keeps the session alive. */
  async noop(): Promise<void> {
    await this.#ask('NOOP');
  }

  /**
   * Ends the session; the server deletes what was marked. Only if this resolves is that certain.
   * @throws Pop3Error: `refused` if it says that it has not, or not all; `closed` or `timeout` if it has not said anything
   */
  async quit(): Promise<void> {
    try {
      await this.#ask('QUIT');
    } finally {
      this.abort();
    }
  }

  /** Drops the connection without QUIT: the server deletes nothing. */
  abort(): void {
    this.#unlisten?.();
    this.#engine.close(this.#error('closed', 'the session is over'));
  }

  async #begin(options: Pop3Options, socket: Socket, tls: TlsConfig): Promise<void> {
    const { host, port, security, timeout, signal } = options;
    const greeting = textOf(
      await this.#engine.greeting().catch((error: unknown) => {
        throw this.#refusedGreeting(error);
      }),
    );
    this.#capabilities = await this.#askCapabilities();
    let secured = socket;
    if (security === 'starttls') {
      await this.#startTls();
      secured = await upgradeTls(this.#engine.release(), { host, port, tls, timeout, signal, sessionCache });
      this.#engine.adopt(secured);
      // RFC 2595 §4: what was said in the clear may have been said by anybody.
      this.#capabilities = await this.#askCapabilities();
    }
    await authenticate(this.#engine, this.#capabilities, {
      host,
      port,
      user: options.user,
      password: options.password,
      accessToken: options.accessToken,
      mechanism: options.mechanism,
      security,
      certificate: tls.certFile !== undefined,
      isSecured: secured instanceof TLSSocket,
      binding: secured instanceof TLSSocket ? channelBinding(secured) : undefined,
      greeting,
      utf8: options.utf8 ?? true,
    });
    // Some servers announce more, or other things, to those who have logged in.
    if (this.#capabilities.announced) this.#capabilities = await this.#askCapabilities();
    this.#engine.pipelining = this.#capabilities.pipelining;
  }

  async #askCapabilities(): Promise<Capabilities> {
    const lines: string[] = [];
    try {
      await this.#engine.send({
        line: 'CAPA',
        shown: 'CAPA',
        body: { kind: 'lines', take: (line) => void lines.push(line.toString('latin1')), ...CAPABILITIES },
      });
    } catch (error) {
      if (error instanceof Pop3Error && error.kind === 'refused') return UNANNOUNCED;
      throw error;
    }
    return parseCapabilities(lines);
  }

  async #startTls(): Promise<void> {
    const remedy =
      'Use port 995 with security: tls. If the server used to offer STLS, somebody may be tampering with the connection.';
    if (this.#capabilities.announced && !this.#capabilities.stls) {
      throw this.#error('policy', 'the server does not offer STLS, and the account demands it', remedy);
    }
    try {
      await this.#ask('STLS');
    } catch (error) {
      if (error instanceof Pop3Error && error.kind === 'refused')
        throw this.#error('policy', `the server refuses STLS: ${error.said ?? ''}`, remedy);
      throw error;
    }
  }

  #ask(line: string): Promise<Accepted> {
    return this.#engine.send({ line, shown: line, body: NO_BODY });
  }

  #fetch(line: string, sink: MessageSink): Promise<Accepted> {
    return this.#engine.send({ line, shown: line, body: { kind: 'message', sink } });
  }

  #endWith(signal: AbortSignal | undefined): void {
    if (!signal) return;
    const stop = (): void => this.#engine.close(this.#error('closed', 'stopped'));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    this.#unlisten = () => signal.removeEventListener('abort', stop);
  }

  #refusedGreeting(error: unknown): unknown {
    if (!(error instanceof Pop3Error) || error.kind !== 'refused') return error;
    const { said, responseCode } = error;
    return new Pop3Error(`${this.server} turned the connection away: ${said ?? ''}`, {
      kind: 'refused',
      server: this.server,
      responseCode,
      cause: error,
      ...(said === undefined ? {} : { said }),
    });
  }

  #protocol(message: string): Failure {
    const error = this.#error('protocol', message);
    this.#engine.close(error);
    return error;
  }

  #error(kind: Pop3Error['kind'], message: string, remedy?: string): Pop3Error {
    return new Pop3Error(`${this.server}: ${message}`, {
      kind,
      server: this.server,
      ...(remedy === undefined ? {} : { remedy }),
    });
  }
}

function textOf(reply: Accepted): string {
  return reply.kind === 'ok' ? reply.text : '';
}

/** RFC 1939 §3: arguments are printable; ours are numbers. */
function number(value: number): string {
  if (!Number.isInteger(value) || value < 0) throw new TypeError(`no message number: ${value}`);
  return String(value);
}
