/**
 * The IMAP destination: APPEND to a folder, where no SPF and no DMARC is asked about, for Gmail, Exchange and everybody
 * else's mailbox. A message is in memory whole while it is sent, so large ones go one at a time and huge ones not at all.
 */

import type { ImapFlow } from 'imapflow';
import type { ImapConfig } from '../config/types.ts';
import { Failure, reasonOf } from '../failure.ts';
import { headerFields } from '../mail/header.ts';
import { printable } from '../untrusted.ts';
import { octetsOf } from './content.ts';
import { withDeadline } from './deadline.ts';
import type { Delivery, Destination, DestinationContext, Outcome } from './destination.ts';
import { connectRemedy } from './dial.ts';
import { internalDate } from './internal-date.ts';
import { Gate } from './limited.ts';
import { Pool } from './pool.ts';
import { tlsOptions, tlsRemedy } from './tls.ts';

/** Octets. Gmail takes 25 MB, Exchange 150 MB at most. */
const LARGEST = 100 * 1024 * 1024;
/** Octets; from here on one at a time. */
const LARGE = 4 * 1024 * 1024;
const SETUP_TIMEOUT = 60_000;
const IDLE_TIMEOUT = 60_000;

export function openImap(config: ImapConfig, context: DestinationContext): Destination {
  const pool = new Pool((signal) => ImapSession.open(config, signal), {
    most: config.concurrency,
    idleTimeout: IDLE_TIMEOUT,
  });
  const large = new Gate(1);

  async function deliver(delivery: Delivery): Promise<Outcome> {
    const { size } = delivery.message;
    if (size > LARGEST) {
      const said = `the message has ${String(size)} octets, at most ${String(LARGEST)} can be put into a folder`;
      return { kind: 'rejected', said, scope: 'message' };
    }
    if (size < LARGE) return append(delivery);
    if (!(await large.enter(delivery.signal))) {
      return { kind: 'deferred', said: printable(reasonOf(delivery.signal.reason)), scope: 'message' };
    }
    try {
      return await append(delivery);
    } finally {
      large.leave();
    }
  }

  async function append(delivery: Delivery): Promise<Outcome> {
    const date = internalDate(headerFields(delivery.message.header), context.now());
    try {
      const octets = await whole(delivery);
      const { connection } = await pool.acquire(delivery.signal);
      const outcome = await connection.append(octets, date, delivery.signal);
      if (outcome.kind === 'confirmed') pool.release(connection);
      else {
        connection.close();
        pool.discard(connection);
      }
      return outcome;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const parts = [error.message, error.said, error.remedy].filter((part) => part !== undefined);
      const scope = error.scope === 'message' ? 'message' : 'destination';
      return { kind: 'deferred', said: printable(parts.join('; ')), scope };
    }
  }

  return {
    name: config.name,
    deliver,
    async check(signal): Promise<string> {
      const session = await ImapSession.open(config, signal);
      session.quit();
      return printable(
        `IMAP at ${config.host}:${String(config.port)}, logged in as ${config.auth.user}, ${config.folder}`,
      );
    },
    async close(): Promise<void> {
      pool.close();
    },
  };
}

async function whole(delivery: Delivery): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of octetsOf(delivery.message)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

interface ImapError extends Error {
  readonly code?: string;
  readonly authenticationFailed?: boolean;
  readonly responseStatus?: string;
  readonly responseText?: string;
  readonly serverResponseCode?: string;
}

/** A connection that is logged in. */
class ImapSession {
  readonly #client: ImapFlow;
  readonly #config: ImapConfig;

  private constructor(client: ImapFlow, config: ImapConfig) {
    this.#client = client;
    this.#config = config;
  }

  /** Connects and logs in, and makes the folder if it is not there. Throws a `Failure` that says what to do. */
  static async open(config: ImapConfig, signal: AbortSignal): Promise<ImapSession> {
    const server = `${config.host}:${String(config.port)}`;
    const tls = await tlsOptions(config.tls);
    const pass = await config.auth.password.reveal();
    // loaded where it is used: it and what it pulls in are 20 MB that others need not carry
    const { ImapFlow } = await import('imapflow');
    const client = new ImapFlow({
      host: config.host,
      port: config.port,
      secure: config.security === 'tls',
      doSTARTTLS: config.security === 'tls' ? undefined : config.security === 'starttls',
      auth: { user: config.auth.user, pass },
      tls: { ...tls, rejectUnauthorized: true },
      logger: false,
      disableAutoIdle: true,
      connectionTimeout: SETUP_TIMEOUT,
      greetingTimeout: SETUP_TIMEOUT,
      socketTimeout: config.timeout,
    });
    // an 'error' that nobody listens to would end the process; the pending command gets it too
    client.on('error', () => undefined);
    try {
      await withDeadline(signal, SETUP_TIMEOUT, 'no session', (deadline) =>
        raced(client, deadline, () => client.connect()),
      );
      const session = new ImapSession(client, config);
      try {
        await raced(client, signal, () => client.mailboxCreate(config.folder));
      } catch (error) {
        // It may be there and the server say so in its own way (INBOX always is), or we may not make any: APPEND tells.
        if ((error as ImapError).responseStatus !== 'NO') throw error;
      }
      return session;
    } catch (error) {
      client.close();
      throw setupFailure(error as ImapError, config, server);
    }
  }

  get usable(): boolean {
    return this.#client.usable;
  }

  get closed(): boolean {
    return !this.usable;
  }

  /** One append at a time. */
  readonly pending = false;

  /** Appends one message. Never throws. */
  async append(octets: Buffer, date: Date | undefined, signal: AbortSignal): Promise<Outcome> {
    const { folder, flags } = this.#config;
    try {
      const found = await raced(this.#client, signal, () => this.#client.append(folder, octets, [...flags], date));
      if (found === false) throw new Error('the connection was closed');
      const uid = found.uid === undefined ? 'no UID told' : `UID ${String(found.uid)}`;
      return { kind: 'confirmed', said: printable(`${folder}: ${uid}`), scope: 'message' };
    } catch (error) {
      return appendOutcome(error as ImapError);
    }
  }

  quit(): void {
    // a server that does not answer LOGOUT is not waited for
    const timer = setTimeout(() => {
      this.#client.close();
    }, 5000);
    void this.#client
      .logout()
      .catch(() => {
        this.#client.close();
      })
      .finally(() => {
        clearTimeout(timer);
      });
  }

  close(): void {
    this.#client.close();
  }
}

/** The work, or the reason of `signal`, whichever is first; then the connection is closed. */
async function raced<T>(client: ImapFlow, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => {
    aborted.reject(new Error(reasonOf(signal.reason)));
    client.close();
  };
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await Promise.race([work(), aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function appendOutcome(error: ImapError): Outcome {
  const words = printable(error.responseText ?? reasonOf(error));
  const code = error.serverResponseCode;
  const said = code === undefined ? words : `[${printable(code)}] ${words}`;
  if (code === 'APPENDLIMIT' || code === 'TOOBIG') return { kind: 'rejected', said, scope: 'message' };
  // BAD is what servers say to octets they cannot take; NO has many reasons, and most of them pass
  if (error.responseStatus === 'BAD') return { kind: 'rejected', said, scope: 'message' };
  if (error.responseStatus === 'NO') {
    return {
      kind: 'deferred',
      said,
      scope: code === 'OVERQUOTA' || code === 'UNAVAILABLE' ? 'destination' : 'message',
    };
  }
  // How far the message had got cannot be known of this library: it may have arrived.
  return { kind: 'inDoubt', said: printable(`${said}, before the reply to APPEND`), scope: 'message' };
}

function setupFailure(error: ImapError, config: ImapConfig, server: string): Failure {
  if (error instanceof Failure) return error;
  const said = error.responseText === undefined ? {} : { said: printable(error.responseText) };
  const details = { scope: 'destination' as const, server, ...said, cause: error };
  if (error.authenticationFailed === true) {
    return new Failure('login refused', {
      ...details,
      code: 'imap.auth',
      remedy: `Check auth.user and auth.password of destination ${config.name}; Gmail and others want an app password.`,
    });
  }
  const tls = tlsRemedy(error.code);
  const remedy = tls ?? connectRemedy(error.code);
  return new Failure(`no IMAP session with ${server}: ${printable(reasonOf(error) || (error.code ?? 'closed'))}`, {
    ...details,
    code: tls === undefined ? 'imap.session' : 'imap.tls',
    ...(remedy === undefined ? {} : { remedy }),
  });
}
