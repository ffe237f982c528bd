/**
 * One SMTP connection (nodemailer's), from the first packet to the last: TLS, login, one mail transaction after another.
 * It reports what the server answered and how far the message had got, and judges nothing (`smtp-outcome.ts` does).
 * Nothing secret may leave it, and no login happens before TLS unless the config says `none`.
 */

import type { Readable } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import type { SMTPConnectionSendInfo, SMTPError } from 'nodemailer/lib/smtp-connection';
import type { SmtpConfig } from '../config/types.ts';
import { Failure, reasonOf } from '../failure.ts';
import type { Progress } from './content.ts';
import { withDeadline } from './deadline.ts';
import { dial, placeName } from './dial.ts';
import type { Place } from './dial.ts';
import { codeOf, confirmation, endingOf, refusals, setupFailure } from './smtp-errors.ts';
import { parseExtensions } from './smtp-extensions.ts';
import type { Extensions } from './smtp-extensions.ts';
import type { Ending, Reply } from './smtp-outcome.ts';
import { pinnedFailure, tlsOptions } from './tls.ts';

// A reply is a few lines; a server that sends more than this in one is broken or means harm.
const REPLY_LIMIT = 64 * 1024;
const CONNECT_TIMEOUT = 30_000;
// RFC 5321 §4.5.3.2.1 allows five minutes for the greeting (tarpits use them); this is for the whole way to MAIL FROM.
const SETUP_TIMEOUT = 5 * 60_000;
const QUIT_TIMEOUT = 5_000;

/** How a session is opened: the part of `SmtpConfig` that it needs. */
export interface SessionConfig extends Pick<SmtpConfig, 'name' | 'security' | 'tls' | 'auth' | 'timeout' | 'helo'> {
  readonly lmtp: boolean;
}

/** An envelope as it goes to the server, addresses checked, and what is known of the message. */
export interface WireEnvelope {
  readonly from: string;
  readonly to: readonly string[];
  /** Octets, for SIZE. */
  readonly size: number;
  readonly eightBit: boolean;
  /** Asks for REQUIRETLS (RFC 8689). */
  readonly requireTls: boolean;
}

export interface TransactionReport {
  /** Refusals at RCPT TO, by address as in the envelope. */
  readonly refused: ReadonlyMap<string, Reply>;
  /** LMTP: the replies after the final dot, by address as in the envelope; those that came, if the connection broke. */
  readonly settled: ReadonlyMap<string, Reply>;
  readonly ending: Ending;
}

type Done = (error?: SMTPError | null) => void;

/** A connection that is ready for MAIL FROM. */
export class SmtpSession {
  /** Transactions begun. */
  transactions = 0;
  readonly extensions: Extensions;
  readonly protocol: 'SMTP' | 'LMTP';
  /** Where it leads, for messages. */
  readonly server: string;
  readonly #connection: SMTPConnection;
  readonly #life: Life;
  readonly #settled = new Map<string, Reply>();

  private constructor(connection: SMTPConnection, life: Life, server: string, lmtp: boolean) {
    this.#connection = connection;
    this.#life = life;
    this.server = server;
    this.protocol = lmtp ? 'LMTP' : 'SMTP';
    if (lmtp) noteReplies(connection, this.#settled);
    this.extensions = parseExtensions(connection.lastServerResponse === false ? '' : connection.lastServerResponse);
  }

  /** Connects, starts TLS and logs in. Throws a `Failure` (scope destination) that says what to do. */
  static async open(config: SessionConfig, place: Place, helo: string, signal: AbortSignal): Promise<SmtpSession> {
    const tls = await tlsOptions(config.tls);
    return withDeadline(signal, SETUP_TIMEOUT, 'no session', async (deadline) => {
      const socket = await dial(place, 'smtp', CONNECT_TIMEOUT, { signal: deadline });
      const connection = new SMTPConnection({
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
      const session = new SmtpSession(connection, life, server, config.lmtp);
      if (config.auth !== undefined) await session.#login(config, config.auth, server, signal);
      return session;
    } catch (error) {
      life.end();
      if (error instanceof Failure) throw error;
      throw setupFailure(error as SMTPError, config.name, server);
    }
  }

  async #login(
    config: SessionConfig,
    auth: NonNullable<SessionConfig['auth']>,
    server: string,
    signal: AbortSignal,
  ): Promise<void> {
    const offers = this.extensions.get('AUTH');
    if (!this.#connection.allowsAuth || (offers !== undefined && offers.length === 0)) {
      throw new Failure(`${server} offers no login on this connection`, {
        scope: 'destination',
        code: 'smtp.auth',
        server,
        remedy:
          config.security === 'none'
            ? 'Many servers take a password over TLS only: set security to starttls or tls; or remove auth.'
            : 'Use the port for submission (465 or 587), or remove auth.',
      });
    }
    const pass = await auth.password.reveal();
    await this.#life.run(signal, (done) => {
      this.#connection.login({ user: auth.user, pass }, done);
    });
  }

  /** Nothing has ended this connection yet, as far as we know. */
  get usable(): boolean {
    return !this.#life.ended;
  }

  /** How the connection is protected, for people: `TLSv1.3`, or `no TLS`. */
  get protection(): string {
    const socket = this.#connection._socket;
    return socket instanceof TLSSocket ? (socket.getProtocol() ?? 'TLS') : 'no TLS';
  }

  /** One mail transaction. Never throws: what went wrong is the report's ending. Ends soon after `signal` aborts. */
  async send(
    envelope: WireEnvelope,
    body: Readable,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<TransactionReport> {
    this.transactions++;
    this.#settled.clear();
    // nodemailer notes in this very object what became of each recipient, whichever way the transaction ends
    const wire = {
      from: envelope.from === '' ? (false as const) : envelope.from,
      to: [...envelope.to],
      size: envelope.size,
      use8BitMime: envelope.eightBit,
      requireTLSExtensionEnabled: envelope.requireTls,
    };
    let info: SMTPConnectionSendInfo | undefined;
    let ending: Ending;
    try {
      await this.#life.run(signal, (done) => {
        this.#connection.send(wire, body, (error, result) => {
          info = result;
          done(error);
        });
      });
      ending = confirmation(info, progress);
      if (this.protocol === 'LMTP' && info?.accepted.some((recipient) => !this.#settled.has(recipient)) === true) {
        ending = { kind: 'lost', reason: 'a recipient got no reply', ...progress };
      }
    } catch (error) {
      ending = endingOf(error as SMTPError, progress);
    } finally {
      body.destroy();
    }
    // A server that answered amid the message may take the rest of it for commands: never write another octet to it.
    if (ending.kind !== 'accepted' && (ending.kind !== 'refused' || progress.started)) this.#life.end();
    return { refused: refusals(wire), settled: new Map(this.#settled), ending };
  }

  /** Says QUIT and closes, without making anybody wait for it. */
  quit(): void {
    this.#life.quit();
  }

  /** Closes at once. */
  close(): void {
    this.#life.end();
  }
}

/** Makes promises of nodemailer's callbacks, which are not all called when the connection ends in between. */
class Life {
  ended = false;
  readonly #connection: SMTPConnection;
  #fail: ((error: unknown) => void) | undefined;
  #quitTimer: NodeJS.Timeout | undefined;

  constructor(connection: SMTPConnection) {
    this.#connection = connection;
    connection.on('error', (error: unknown) => {
      this.ended = true;
      this.#fail?.(error);
    });
    connection.once('end', () => {
      this.ended = true;
      clearTimeout(this.#quitTimer);
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

  quit(): void {
    if (this.ended) return;
    this.#quitTimer = setTimeout(() => {
      this.end();
    }, QUIT_TIMEOUT);
    this.#connection.quit();
  }

  end(): void {
    clearTimeout(this.#quitTimer);
    this.ended = true;
    this.#connection.close();
  }
}

/**
 * Notes each recipient's own reply after the final dot. nodemailer tells only the last one's, and none if the connection
 * breaks between them; what was confirmed by then must not be sent again. Should a later version of it call this otherwise,
 * `send` finds replies missing and takes nothing for confirmed.
 */
function noteReplies(connection: SMTPConnection, settled: Map<string, Reply>): void {
  const inner = connection as unknown as { _actionLMTPStream: (...args: [string, boolean, string, unknown]) => void };
  const original = inner._actionLMTPStream.bind(connection);
  inner._actionLMTPStream = (recipient, final, text, callback) => {
    const code = codeOf(text);
    settled.set(recipient, { code, text });
    original(recipient, final, text, callback);
  };
}
