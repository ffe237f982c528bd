/**
 * The SMTP destination. The message goes out octet for octet, with one trace field on top if the config says so; only
 * what SMTP itself forbids is changed on the way (`octets.ts`). It never decides what is tried again.
 */

import type { SmtpConfig } from '../config/types.ts';
import { Failure } from '../failure.ts';
import { headerFields } from '../mail/header.ts';
import { printable } from '../untrusted.ts';
import { isAddress, needsUtf8, originalReversePath, withAsciiDomain } from './address.ts';
import { noProgress, octetsOf, tracked } from './content.ts';
import type { Delivery, Destination, Outcome } from './destination.ts';
import { Surveyor } from './octets.ts';
import type { Survey } from './octets.ts';
import { Pool } from './pool.ts';
import { sizeLimit } from './smtp-extensions.ts';
import type { Extensions } from './smtp-extensions.ts';
import { smtpOutcome } from './smtp-outcome.ts';
import { SmtpSession } from './smtp-session.ts';
import type { TransactionReport } from './smtp-session.ts';
import { receivedField } from './trace.ts';

// Servers hang up on an idle client after five minutes (RFC 5321 §4.5.3.2.7), busy ones much sooner.
const IDLE_TIMEOUT = 20_000;
// Servers limit the messages of a connection, Postfix and Exchange among them; none that we know to fewer than this.
const TRANSACTIONS = 50;

export interface DestinationContext {
  /** The name of this host, for EHLO and trace fields. */
  readonly hostName: string;
  now(): Date;
}

/** A delivery made ready: all that is the same whichever connection takes it. */
interface Prepared {
  readonly from: string;
  /** By the address as it goes to the server: the address as the config names it. */
  readonly to: ReadonlyMap<string, string>;
  readonly top: Buffer;
  readonly survey: Survey;
}

export function openSmtp(config: SmtpConfig, context: DestinationContext): Destination {
  const place = { host: config.host, port: config.port };
  const helo = config.helo ?? context.hostName;
  const pool = new Pool((signal) => SmtpSession.open(config, place, helo, signal), {
    maxIdle: config.concurrency,
    idleTimeout: IDLE_TIMEOUT,
  });

  async function deliver(delivery: Delivery): Promise<Outcome> {
    const recipients = config.to.filter((recipient) => !delivery.settled.has(recipient));
    if (recipients.length === 0) {
      return { kind: 'confirmed', said: 'every recipient was settled before', scope: 'message', recipients: {} };
    }
    try {
      const prepared = await prepare(config, context, delivery, recipients);
      const report = await attempt(prepared, delivery);
      const refused = new Map([...report.refused].map(([to, reply]) => [prepared.to.get(to) ?? to, reply]));
      return smtpOutcome({ recipients, refused, ending: report.ending });
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return failureOutcome(error, recipients);
    }
  }

  async function attempt(prepared: Prepared, delivery: Delivery): Promise<TransactionReport> {
    let fresh = false;
    for (;;) {
      const { connection, reused } = await pool.acquire(delivery.signal, { fresh });
      const obstacle = unsendable(prepared, connection.extensions);
      if (obstacle !== undefined) {
        pool.release(connection);
        return { refused: new Map(), ending: { kind: 'unsendable', reason: obstacle } };
      }
      const progress = noProgress();
      const body = tracked(withTop(prepared.top, delivery), progress);
      const envelope = { from: prepared.from, to: [...prepared.to.keys()], ...prepared.survey };
      const report = await connection.send(envelope, body, progress, delivery.signal);
      const clean = report.ending.kind === 'accepted' && connection.transactions < TRANSACTIONS;
      if (clean) pool.release(connection);
      else connection.quit();
      // A connection that had been idle tells only now that the server gave it up. Nothing has been sent yet.
      const stale = reused && !progress.started && !delivery.signal.aborted && isHangup(report);
      if (!stale || fresh) return report;
      fresh = true;
    }
  }

  return {
    name: config.name,
    deliver,
    async check(signal): Promise<string> {
      const session = await SmtpSession.open(config, place, helo, signal);
      const limit = sizeLimit(session.extensions);
      const login = config.auth === undefined ? 'no login' : `logged in as ${config.auth.user}`;
      session.quit();
      const size = limit === undefined ? '' : `, takes messages up to ${String(limit)} octets`;
      return printable(`SMTP at ${config.host}:${String(config.port)}, ${session.protection}, ${login}${size}`);
    },
    async close(): Promise<void> {
      pool.close();
    },
  };
}

async function prepare(
  config: SmtpConfig,
  context: DestinationContext,
  delivery: Delivery,
  recipients: readonly string[],
): Promise<Prepared> {
  const trace = { hostName: context.hostName, account: delivery.account, id: delivery.idempotencyKey, recipients };
  const top = config.trace ? receivedField({ ...trace, time: context.now() }) : Buffer.alloc(0);
  const surveyor = new Surveyor();
  for await (const chunk of withTop(top, delivery)) surveyor.add(chunk);
  return {
    // Without a Return-Path the null reverse-path is the one that cannot send a bounce to somebody uninvolved.
    from:
      config.from.kind === 'address'
        ? withAsciiDomain(config.from.address)
        : withAsciiDomain(originalReversePath(headerFields(delivery.message.header)) ?? ''),
    to: new Map(recipients.map((recipient) => [withAsciiDomain(recipient), recipient])),
    top,
    survey: surveyor.result(),
  };
}

async function* withTop(top: Buffer, delivery: Delivery): AsyncGenerator<Buffer, void, undefined> {
  if (top.length > 0) yield top;
  yield* octetsOf(delivery.message);
}

/** Why this server can never take this message, if so: known before anything is sent. */
function unsendable(prepared: Prepared, extensions: Extensions): string | undefined {
  const limit = sizeLimit(extensions);
  if (limit !== undefined && prepared.survey.size > limit) {
    return `the message has ${String(prepared.survey.size)} octets, the server takes ${String(limit)}`;
  }
  const addresses = [prepared.from, ...prepared.to.keys()].filter((address) => address !== '');
  const bad = addresses.find((address) => !isAddress(address));
  if (bad !== undefined) return `${printable(bad, 100)} is no mail address`;
  const international = addresses.find(needsUtf8);
  if (international !== undefined && !extensions.has('SMTPUTF8')) {
    return `${printable(international, 100)} needs SMTPUTF8, which the server does not offer`;
  }
  return undefined;
}

function isHangup({ ending }: TransactionReport): boolean {
  return ending.kind === 'lost' || (ending.kind === 'refused' && ending.reply.code === 421);
}

function failureOutcome(failure: Failure, recipients: readonly string[]): Outcome {
  const parts = [failure.message, failure.said, failure.remedy].filter((part) => part !== undefined);
  const said = printable(parts.join('; '));
  const scope = failure.scope === 'message' ? 'message' : 'destination';
  const each = recipients.map((recipient) => [recipient, { kind: 'deferred' as const, said }] as const);
  return { kind: 'deferred', said, scope, recipients: Object.fromEntries(each) };
}
