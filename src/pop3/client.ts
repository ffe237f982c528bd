/**
 * A POP3 client (RFC 1939, 2449, 2595, 5034): AUTHORIZATION in `open`, then the TRANSACTION state as methods, then UPDATE by
 * `quit`. Calls that are not awaited one by one are pipelined where the server allows it, and answered in order.
 *
 * @example
 * import { createWriteStream } from 'node:fs';
 * import { pipeline } from 'node:stream/promises';
 * import { Pop3Client } from './client.ts';
 *
 * const session = await Pop3Client.open({
 *   host: 'pop.example.com',
 *   port: 995,
 *   security: 'tls',
 *   user: 'jane',
 *   password: async () => 'secret',
 *   timeout: 60_000,
 * });
 * const { entries } = await session.listing();
 * for (const { messageNumber } of entries) {
 *   await pipeline(session.retrieveStream(messageNumber), createWriteStream(`${messageNumber}.eml`));
 *   await session.delete(messageNumber);
 * }
 * await session.quit(); // only now are they deleted
 */

import { Readable } from 'node:stream';
import type { Security, TlsConfig } from '../config/types.ts';
import type { Failure } from '../failure.ts';
import { reasonOf } from '../failure.ts';
import { askCapabilities, authorize } from './authorize.ts';
import { UNANNOUNCED } from './capabilities.ts';
import type { Capabilities, Remembered } from './capabilities.ts';
import { connectSocket } from './connect.ts';
import { NO_BODY } from './command.ts';
import type { MessageSink } from './command.ts';
import { Engine } from './engine.ts';
import type { Accepted } from './engine.ts';
import { Pop3Error } from './error.ts';
import { Lessons } from './lessons.ts';
import type { Lesson } from './lessons.ts';
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
  /** What an earlier client of this server and user found (`remember`): two commands less to wait for. */
  readonly remembered?: Remembered;
  /** The longest wait for a reply, or for more of one; and for connecting and TLS together. Milliseconds. */
  readonly timeout: number;
  readonly proxy?: string;
  readonly sourceAddress?: string;
  /** Ends the session at once. */
  readonly signal?: AbortSignal;
  /** Every line but those of messages, secrets replaced. */
  readonly log?: (event: { readonly direction: 'C' | 'S'; readonly line: string }) => void;
}

/** One for the process, so that a poll every minute is no full handshake every minute. */
const sessionCache = new SessionCache();
/** Likewise, so that a server is not asked twice for what it refuses. */
const lessons = new Lessons();
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
  readonly #key: string;
  #beforeLogin: Capabilities = UNANNOUNCED;
  #capabilities: Capabilities = UNANNOUNCED;
  #unlisten: (() => void) | undefined;
  /** Message numbers: what RETR was sent for, and what DELE was accepted for. */
  readonly #retrieved = new Set<number>();
  readonly #marked = new Set<number>();

  private constructor(engine: Engine, server: string, key: string) {
    this.#engine = engine;
    this.#key = key;
    this.server = server;
  }

  /**
   * Connects, secures, asks for capabilities and logs in. Where a refusal may have another reason than wrong credentials
   * (APOP without secrets, mail that wants UTF8), there is one further session that does it the other way, and no more.
   * @throws Pop3Error
   */
  static async open(options: Pop3Options): Promise<Pop3Client> {
    const key = `${options.host}:${options.port} ${options.user}`;
    const known = lessons.of(key);
    try {
      return await Pop3Client.#openOnce(options, key, known);
    } catch (refusal) {
      const lesson = refusal instanceof Pop3Error ? refusal.lesson : undefined;
      if (!lesson || options.signal?.aborted) throw refusal;
      const { remembered: _, ...unbiased } = options;
      const client = await Pop3Client.#openOnce(unbiased, key, { ...known, ...lesson }).catch((error: unknown) => {
        // A server that does not answer any more has still refused the login, and that decides when it is tried again.
        throw error instanceof Pop3Error && (error.kind === 'auth' || error.kind === 'refused') ? error : refusal;
      });
      lessons.learn(key, lesson);
      return client;
    }
  }

  static async #openOnce(options: Pop3Options, key: string, lesson: Lesson): Promise<Pop3Client> {
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
    const client = new Pop3Client(new Engine(secured, { server, timeout, log: options.log }), server, key);
    try {
      client.#endWith(signal);
      client.#beforeLogin = await authorize(client.#engine, secured, {
        host,
        port,
        security,
        user: options.user,
        password: options.password,
        accessToken: options.accessToken,
        mechanism: options.mechanism,
        certificate: tls.certFile !== undefined,
        utf8: options.utf8 ?? true,
        lesson,
        remembered: options.remembered?.beforeLogin,
        upgrade: (plain) => upgradeTls(plain, { host, port, tls, timeout, signal, sessionCache }),
      });
      await client.#learn(options.remembered?.afterLogin);
      return client;
    } catch (error) {
      client.abort();
      throw error;
    }
  }

  /** For the `remembered` of a later client. */
  remember(): Remembered {
    return { beforeLogin: this.#beforeLogin, afterLogin: this.#capabilities };
  }

  /** Some servers announce more, or other things, to those who have logged in. */
  async #learn(remembered: Capabilities | undefined): Promise<void> {
    const take = (capabilities: Capabilities): void => {
      this.#capabilities = capabilities;
      this.#engine.pipelining = capabilities.pipelining;
    };
    take(this.#beforeLogin);
    if (!this.#beforeLogin.announced) return;
    const asked = askCapabilities(this.#engine).then(take);
    if (remembered?.pipelining !== true) return await asked;
    // The question goes with the commands that follow; if it is lost, so are they, and say so.
    take(remembered);
    asked.catch(() => undefined);
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
    return await this.#heeding(readListing(this.#engine, this.#capabilities, this.server));
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
    this.#retrieved.add(messageNumber);
    try {
      await this.#fetch(`RETR ${number(messageNumber)}`, { write });
    } catch (error) {
      if (error instanceof Pop3Error && error.kind === 'refused') this.#retrieved.delete(messageNumber);
      throw error;
    }
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
      destroy(error, callback) {
        more?.();
        callback(error);
      },
    });
    const write = (piece: Buffer): void | Promise<void> => {
      if (stream.destroyed) throw new Error('the stream was destroyed before the end of the message');
      if (stream.push(piece)) return undefined;
      return new Promise((resolve) => (more = resolve));
    };
    this.retrieve(messageNumber, { write }).then(
      () => stream.push(null),
      (error: unknown) => stream.destroy(error instanceof Error ? error : new Error(reasonOf(error))),
    );
    return stream;
  }

  /** The size of one message as LIST says; undefined if the server does not. */
  async list(messageNumber: number): Promise<number | undefined> {
    try {
      const reply = await this.#ask(`LIST ${number(messageNumber)}`);
      return parseStat(textOf(reply))?.octets;
    } catch (error) {
      if (error instanceof Pop3Error && error.kind === 'refused') return undefined;
      throw error;
    }
  }

  /** Marks a message as deleted: it goes at `quit`, and not before. */
  async delete(messageNumber: number): Promise<void> {
    await this.#ask(`DELE ${number(messageNumber)}`);
    this.#marked.add(messageNumber);
  }

  /** Unmarks all. */
  async reset(): Promise<void> {
    await this.#ask('RSET');
    this.#marked.clear();
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
   * @throws Pop3Error: `refused` if it says that it has not, or not all; `closed` or `timeout` if it has not said anything;
   * `policy` if it would also delete what was retrieved and not marked: then the connection was dropped, and nothing is
   */
  async quit(): Promise<void> {
    try {
      // RFC 2449 §6.7: with EXPIRE 0 a server may delete all that was retrieved.
      if (this.#capabilities.expire === 0 && [...this.#retrieved].some((message) => !this.#marked.has(message)))
        throw this.#error(
          'policy',
          'the server deletes at QUIT what was retrieved, and not all of that may be deleted',
        );
      await this.#ask('QUIT');
    } finally {
      this.abort();
    }
  }

  /** Drops the connection without QUIT: the server deletes nothing. */
  abort(): void {
    this.#unlisten?.();
    this.#engine.close(() => this.#error('closed', 'the session is over'));
  }

  #ask(line: string): Promise<Accepted> {
    return this.#engine.send({ line, shown: line, body: NO_BODY });
  }

  #fetch(line: string, sink: MessageSink): Promise<Accepted> {
    return this.#heeding(this.#engine.send({ line, shown: line, body: { kind: 'message', sink } }));
  }

  /** RFC 6856 §5: what is refused with [UTF8] can be had by who said UTF8 before the login, as the next session does. */
  async #heeding<T>(asked: Promise<T>): Promise<T> {
    try {
      return await asked;
    } catch (error) {
      if (error instanceof Pop3Error && error.responseCode === 'UTF8') lessons.learn(this.#key, { utf8: true });
      throw error;
    }
  }

  #endWith(signal: AbortSignal | undefined): void {
    if (!signal) return;
    const stop = (): void => this.#engine.close(this.#error('closed', 'stopped'));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    this.#unlisten = () => signal.removeEventListener('abort', stop);
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
