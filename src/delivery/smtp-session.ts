/**
 * One SMTP connection, from the first packet to the last: TLS and login (nodemailer's), then one mail transaction after another.
 * It reports what the server answered and how far the message had got, and judges nothing (`smtp-outcome.ts` does).
 * Nothing secret may leave it, and no login happens before TLS unless the config says `none`.
 */

import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type SMTPConnection from 'nodemailer/lib/smtp-connection';
import type { SMTPError } from 'nodemailer/lib/smtp-connection';
import type { SmtpConfig } from '../config/types.ts';
import { Failure, reasonOf } from '../failure.ts';
import { withDeadline } from './deadline.ts';
import { dial, placeName } from './dial.ts';
import type { Place } from './dial.ts';
import { setupFailure } from './smtp-errors.ts';
import { parseExtensions } from './smtp-extensions.ts';
import type { Extensions } from './smtp-extensions.ts';
import { nothingSent, transact } from './smtp-transaction.ts';
import type { Request, TransactionReport } from './smtp-transaction.ts';
import { REPLY_LIMIT, Wire } from './smtp-wire.ts';
import { pinnedFailure, tlsOptions } from './tls.ts';

// By `import` Node would load all that `node:http`, which nodemailer imports, offers: fetch, WebSocket, 4 MB and 50 ms of CPU.
const require = createRequire(import.meta.url);
const Connection = require('nodemailer/lib/smtp-connection') as typeof SMTPConnection;

const CONNECT_TIMEOUT = 30_000;
// RFC 5321 §4.5.3.2.1 allows five minutes for the greeting (tarpits use them); this is for the whole way to MAIL FROM.
const SETUP_TIMEOUT = 5 * 60_000;

/** How a session is opened: the part of `SmtpConfig` that it needs. */
export interface SessionConfig extends Pick<SmtpConfig, 'name' | 'security' | 'tls' | 'auth' | 'timeout' | 'helo'> {
  readonly lmtp: boolean;
}

type Done = (error?: SMTPError | null) => void;

/** A connection that is ready for MAIL FROM. */
export class SmtpSession {
  /** Transactions begun. */
  transactions = 0;
  /** Transactions in a row that were refused before the message. */
  refusals = 0;
  readonly extensions: Extensions;
  readonly protocol: 'SMTP' | 'LMTP';
  /** Where it leads, for messages. */
  readonly server: string;
  readonly #wire: Wire;
  /** The server may hold a part of a transaction that it refused. */
  #holds = false;
  /** Of the latest transaction, until it has its answers. */
  #running: Promise<void> | undefined;

  private constructor(wire: Wire, extensions: Extensions, server: string, lmtp: boolean) {
    this.#wire = wire;
    this.extensions = extensions;
    this.server = server;
    this.protocol = lmtp ? 'LMTP' : 'SMTP';
  }

  /** Connects, starts TLS and logs in. Throws a `Failure` (scope destination) that says what to do. */
  static async open(config: SessionConfig, place: Place, helo: string, signal: AbortSignal): Promise<SmtpSession> {
    const tls = await tlsOptions(config.tls);
    return withDeadline(signal, SETUP_TIMEOUT, 'no session', async (deadline) => {
      const socket = await dial(place, 'smtp', CONNECT_TIMEOUT, { signal: deadline });
      const connection = new Connection({
        connection: socket,
        host: 'path' in place ? 'localhost' : place.host,
        lmtp: config.lmtp,
        secure: config.security === 'tls',
        requireTLS: config.security === 'starttls',
        ignoreTLS: config.security === 'none',
        name: helo,
        tls: tls satisfies ConnectionOptions,
        connectionTimeout: SETUP_TIMEOUT,
        greetingTimeout: SETUP_TIMEOUT,
        socketTimeout: config.timeout,
        socketCloseTimeout: 0,
        maxResponseSize: REPLY_LIMIT,
        logger: false,
      });
      return SmtpSession.#begin(connection, config, placeName(place), deadline);
    });
  }

  static async #begin(
    connection: SMTPConnection,
    config: SessionConfig,
    server: string,
    signal: AbortSignal,
  ): Promise<SmtpSession> {
    const life = new Life(connection);
    try {
      await life.run(signal, (done) => {
        connection.connect(done);
      });
      const pinned = pinnedFailure(config.tls, connection._socket, server);
      if (config.security !== 'none' && pinned !== undefined) throw pinned;
      const greeting = connection.lastServerResponse;
      const extensions = parseExtensions(greeting === false ? '' : greeting);
      if (config.auth !== undefined) await login({ connection, life, extensions }, config, config.auth, server, signal);
      const socket = connection._socket;
      if (!(socket instanceof Socket)) throw new TypeError('there is no socket');
      return new SmtpSession(new Wire(socket, config.timeout), extensions, server, config.lmtp);
    } catch (error) {
      life.end();
      if (error instanceof Failure) throw error;
      throw setupFailure(error as SMTPError, config.name, server);
    }
  }

  /** Nothing has ended this connection yet, as far as we know. */
  get usable(): boolean {
    return this.#wire.isUsable;
  }

  get closed(): boolean {
    return this.#wire.lost !== undefined;
  }

  /** A transaction waits for its answers. */
  get pending(): boolean {
    return this.#running !== undefined;
  }

  /** A transaction may be announced while the one before it waits for the answer to its message (RFC 2920 §3.1). */
  get takesAhead(): boolean {
    return this.extensions.has('PIPELINING');
  }

  /** How the connection is protected, for people: `TLSv1.3`, or `no TLS`. */
  get protection(): string {
    return this.#wire.protection;
  }

  /**
   * One mail transaction; behind the one that waits for its answer, if there is one. Never throws: what went wrong is the
   * report's ending. Ends soon after the request's signal aborts, and does no harm to the one before.
   */
  async send(request: Request): Promise<TransactionReport> {
    this.transactions++;
    const wire = this.#wire;
    const { signal, progress } = request;
    const before = this.#running;
    const { promise: running, resolve: end } = Promise.withResolvers<void>();
    this.#running = running;
    const { promise: reported, resolve: report, reject: fail } = Promise.withResolvers<TransactionReport>();
    let isBehind = before !== undefined;
    let isCut = false;
    void before?.then(() => {
      isBehind = false;
      if (isCut) wire.end(reasonOf(signal.reason));
    });
    const abort = (): void => {
      isCut = isBehind;
      // Nothing of the message can have been sent: its turn comes with the answers to the one before.
      if (isBehind) report(nothingSent(reasonOf(signal.reason)));
      else wire.end(reasonOf(signal.reason));
    };
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    try {
      const peer = { extensions: this.extensions, lmtp: this.protocol === 'LMTP', holdsAnother: this.#holds };
      this.#holds = false;
      void transact(wire, request, peer, before).then(report, fail);
      const { refused, settled, ending } = await reported;
      // A server that answered amid the message may take the rest of it for commands: never write another octet to it.
      const isInStep = ending.kind === 'accepted' || (ending.kind === 'refused' && !progress.started);
      if (!isCut && !isInStep) wire.end('the transaction broke');
      if (ending.kind === 'refused') this.#holds = true;
      this.refusals = ending.kind === 'accepted' ? 0 : this.refusals + 1;
      return { refused, settled, ending };
    } finally {
      signal.removeEventListener('abort', abort);
      if (this.#running === running) this.#running = undefined;
      end();
    }
  }

  /** Says QUIT and closes, without making anybody wait for it. */
  quit(): void {
    this.#wire.quit();
  }

  /** Closes at once. */
  close(): void {
    this.#wire.end('closed');
  }
}

interface Opened {
  readonly connection: SMTPConnection;
  readonly life: Life;
  readonly extensions: Extensions;
}

async function login(
  { connection, life, extensions }: Opened,
  config: SessionConfig,
  auth: NonNullable<SessionConfig['auth']>,
  server: string,
  signal: AbortSignal,
): Promise<void> {
  const offers = extensions.get('AUTH');
  if (!connection.allowsAuth || (offers !== undefined && offers.length === 0)) {
    throw new Failure(`${server} offers no login on this connection`, {
      scope: 'destination',
      code: 'smtp.auth',
      permanent: true,
      server,
      remedy:
        config.security === 'none'
          ? 'Many servers take a password over TLS only: set security to starttls or tls; or remove auth.'
          : 'Use the port for submission (465 or 587), or remove auth.',
    });
  }
  const pass = await auth.password.reveal();
  await life.run(signal, (done) => {
    connection.login({ user: auth.user, pass }, done);
  });
}

/** Makes promises of nodemailer's callbacks, which are not all called when the connection ends in between. Over with the login. */
class Life {
  readonly #connection: SMTPConnection;
  #fail: ((error: unknown) => void) | undefined;

  constructor(connection: SMTPConnection) {
    this.#connection = connection;
    connection.on('error', (error: unknown) => {
      this.#fail?.(error);
    });
    connection.once('end', () => {
      // the error of the same event, if there is one, is already on its way and says more
      setImmediate(() => this.#fail?.(new Error('the connection was closed')));
    });
  }

  run(signal: AbortSignal, start: (done: Done) => void): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const settle = (error?: unknown): void => {
        this.#fail = undefined;
        signal.removeEventListener('abort', abort);
        if (error === undefined || error === null) resolve();
        else reject(error);
      };
      const abort = (): void => {
        settle(new Error(reasonOf(signal.reason)));
        this.end();
      };
      this.#fail = settle;
      signal.addEventListener('abort', abort, { once: true });
      if (signal.aborted) abort();
      else start(settle);
    });
  }

  end(): void {
    this.#connection.close();
  }
}
