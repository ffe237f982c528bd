/**
 * Deliveries as mail transactions: what SMTP and LMTP destinations have in common. The message goes out octet for octet,
 * with one trace field on top if the config says so; only what these protocols forbid is changed on the way (`octets.ts`).
 * It never decides what is tried again.
 */

import type { MultidropConfig, ReversePath } from '../config/types.ts';
import { Failure } from '../failure.ts';
import { FieldNames, headerFields } from '../mail/header.ts';
import type { HeaderField } from '../mail/header.ts';
import { Surveyor, surveyOf } from '../mail/line-ends.ts';
import type { Survey } from '../mail/line-ends.ts';
import type { StoredMessage } from '../mail/message.ts';
import { printable } from '../untrusted.ts';
import { isAddress, needsUtf8, originalReversePath, withAsciiDomain } from './address.ts';
import { attachFrame } from './attach.ts';
import type { AttachDetails } from './attach.ts';
import { noProgress, piecesOf } from './content.ts';
import type { Delivery, Destination, DestinationContext, Outcome } from './destination.ts';
import type { Place } from './dial.ts';
import { stopped } from './limited.ts';
import { loopReason } from './loop.ts';
import { recipientsOf } from './multidrop.ts';
import { stuffed } from './dot-stuffing.ts';
import { Pool } from './pool.ts';
import { sizeLimit } from './smtp-extensions.ts';
import type { Extensions } from './smtp-extensions.ts';
import { smtpOutcome } from './smtp-outcome.ts';
import type { Ending, Reply } from './smtp-outcome.ts';
import { SmtpSession } from './smtp-session.ts';
import type { SessionConfig } from './smtp-session.ts';
import type { Content, TransactionReport, WireEnvelope } from './smtp-transaction.ts';
import { srsForward } from './srs.ts';
import { receivedField } from './trace.ts';

// Servers hang up on an idle client after five minutes (RFC 5321 §4.5.3.2.7), busy ones much sooner.
const IDLE_TIMEOUT = 20_000;
// As many as other clients send. A server that takes fewer says 421, and the message goes over another connection.
const TRANSACTIONS = 100;
/** Refusals in a row on one connection: servers slow down, or hang up on, who goes on beyond some ten. */
const REFUSALS = 5;
/** For so long a place that answered is asked before those that the config names first. Milliseconds. */
const STAY = 5 * 60_000;

/** The parts of the configs of both kinds that a transfer needs. */
export interface TransferConfig extends SessionConfig {
  /** At least one; tried in this order. */
  readonly places: readonly Place[];
  readonly concurrency: number;
  readonly to: readonly string[];
  readonly multidrop?: MultidropConfig;
  readonly from: ReversePath;
  readonly trace: boolean;
  readonly maxHops?: number;
  readonly attachFrom?: string;
  readonly requireTls?: boolean;
}

/** A delivery made ready: all that is the same whichever connection takes it. */
interface Prepared {
  readonly from: Addressed;
  readonly to: Addressed;
  readonly envelope: WireEnvelope;
  readonly content: Content;
}

/** Addresses made ready. */
interface Addressed {
  /** As they go to the server. */
  readonly addresses: readonly string[];
  /** As the outcome names them, by the address as it goes to the server. */
  readonly names: ReadonlyMap<string, string>;
  /** The first that is no address, if there is one; and the first that needs SMTPUTF8. */
  readonly bad: string | undefined;
  readonly international: string | undefined;
}

function addressed(names: readonly string[]): Addressed {
  const byAddress = new Map(names.map((name) => [withAsciiDomain(name), name]));
  const addresses = [...byAddress.keys()];
  const bad = addresses.find((address) => !isAddress(address));
  return { addresses, names: byAddress, bad, international: addresses.find(needsUtf8) };
}

/** The null reverse-path, which is no address and needs none. */
const NULL_SENDER: Addressed = { addresses: [''], names: new Map(), bad: undefined, international: undefined };

/** How the envelopes of a destination are made: what is the same for every message is made ready once. */
interface Envelopes {
  /** The recipients of the config. */
  readonly to: Addressed;
  readonly from: (delivery: Delivery, time: Date) => Addressed | Promise<Addressed>;
}

export function openTransfer(config: TransferConfig, context: DestinationContext): Destination {
  const open = opener(config, context);
  const pool = new Pool(open, { most: config.concurrency, idleTimeout: IDLE_TIMEOUT });
  const envelopes = { to: addressed(config.to), from: senders(config) };
  const telling = new FieldNames(['received', ...(config.multidrop?.headers ?? []).map((name) => name.toLowerCase())]);

  async function deliver(delivery: Delivery): Promise<Outcome> {
    const fields = headerFields(delivery.message.header, telling);
    const all = recipientsFor(config, fields);
    const { settled } = delivery;
    const recipients = settled.size === 0 ? all : all.filter((recipient) => !settled.has(recipient));
    if (recipients.length === 0 && all.length > 0) {
      return { kind: 'confirmed', said: 'every recipient was settled before', scope: 'message', recipients: {} };
    }
    const self = { hostName: context.hostName, account: delivery.account };
    const reason = all.length === 0 ? 'no header field names a recipient' : loopReason(fields, self, config.maxHops);
    if (reason !== undefined) return outcomeOf(recipients, { kind: 'unsendable', reason });
    try {
      const prepared = await prepare(config, context, delivery, recipients, envelopes);
      const report = await attempt(prepared, delivery);
      // Nothing of it was sent then.
      if ((await delivery.begun) === false) return stopped();
      const named = (replies: ReadonlyMap<string, Reply>): ReadonlyMap<string, Reply> =>
        replies.size === 0
          ? replies
          : new Map([...replies].map(([to, reply]) => [prepared.to.names.get(to) ?? to, reply]));
      return outcomeOf(recipients, report.ending, named(report.refused), named(report.settled));
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
        return { refused: new Map(), settled: new Map(), ending: { kind: 'unsendable', reason: obstacle } };
      }
      const { envelope, content } = prepared;
      const { signal, onSent, begun } = delivery;
      const progress = noProgress();
      const isLast = connection.transactions + 1 >= TRANSACTIONS;
      let isReleased = false;
      const sent = (): void => {
        if (isLast || !connection.takesAhead || onSent === undefined) return;
        isReleased = true;
        pool.release(connection);
        onSent();
      };
      const report = await connection.send({ envelope, content, progress, signal, begun, onSent: sent });
      const isSpent = isLast || connection.refusals >= REFUSALS || isHangup(report.ending) || !connection.usable;
      if (isSpent) pool.discard(connection);
      else if (!isReleased) pool.release(connection);
      // A connection that had been idle tells only now that the server gave it up. Nothing has been sent yet.
      const stale = reused && !progress.started && !delivery.signal.aborted && isHangup(report.ending);
      if (!stale || fresh || (await begun) === false) return report;
      fresh = true;
    }
  }

  return {
    name: config.name,
    deliver,
    async check(signal): Promise<string> {
      const session = await open(signal);
      const limit = sizeLimit(session.extensions);
      const login = config.auth === undefined ? 'no login' : `logged in as ${config.auth.user}`;
      const size = limit === undefined ? '' : `, takes messages up to ${String(limit)} octets`;
      const words = `${session.protocol} at ${session.server}, ${session.protection}, ${login}${size}`;
      session.quit();
      return printable(words);
    },
    async close(): Promise<void> {
      pool.close();
    },
  };
}

/** Opens a session at the first place that has one for us; the place that had stays first for a while. */
function opener(config: TransferConfig, context: DestinationContext): (signal: AbortSignal) => Promise<SmtpSession> {
  let good = { place: config.places[0], until: 0 };
  return async (signal) => {
    const now = context.now().getTime();
    const places = config.places.filter((place) => place !== good.place);
    const order = good.place === undefined ? places : now < good.until ? [good.place, ...places] : config.places;
    const failures: Failure[] = [];
    for (const place of order) {
      try {
        const session = await SmtpSession.open(config, place, config.helo ?? context.hostName, signal);
        if (config.requireTls === true && !session.extensions.has('REQUIRETLS')) {
          session.quit();
          throw withoutRequireTls(session.server);
        }
        good = { place, until: now + STAY };
        return session;
      } catch (error) {
        // A wrong password is wrong at the next host too, and counts there against us.
        if (!(error instanceof Failure) || error.code === 'smtp.auth' || signal.aborted) throw error;
        failures.push(error);
      }
    }
    const [first, ...others] = failures;
    if (first === undefined || others.length === 0) throw first ?? new Error(`${config.name} has no host`);
    const { scope, code, server, said, remedy } = first;
    const permanent = failures.every((failure) => failure.permanent);
    throw new Failure(failures.map(({ message }) => message).join('; '), {
      scope,
      permanent,
      code,
      ...(server === undefined ? {} : { server }),
      ...(said === undefined ? {} : { said }),
      ...(remedy === undefined ? {} : { remedy }),
      cause: first,
    });
  };
}

/** About the server, not the message: others would be refused as well (RFC 8689 §3). */
function withoutRequireTls(server: string): Failure {
  return new Failure('the server cannot promise TLS on the whole way', {
    scope: 'destination',
    permanent: true,
    code: 'smtp.requireTls',
    server,
    remedy: 'Use a server that offers REQUIRETLS, or remove requireTls.',
  });
}

function recipientsFor(config: TransferConfig, fields: readonly HeaderField[]): readonly string[] {
  const found = config.multidrop === undefined ? [] : recipientsOf(fields, config.multidrop);
  return found.length > 0 ? found : config.to;
}

async function prepare(
  config: TransferConfig,
  context: DestinationContext,
  delivery: Delivery,
  recipients: readonly string[],
  envelopes: Envelopes,
): Promise<Prepared> {
  const { message } = delivery;
  const time = context.now();
  const { account, idempotencyKey: id } = delivery;
  const { hostName } = context;
  const trace = config.trace ? [receivedField({ hostName, account, id, recipients, time })] : [];
  const { content, ...survey } =
    config.attachFrom === undefined && message.bytes !== undefined
      ? inMemory([...trace, message.bytes])
      : await streamed(config, message, { account, id, hostName, to: recipients, time }, trace);
  const to = recipients === config.to ? envelopes.to : addressed(recipients);
  const from = await envelopes.from(delivery, time);
  const envelope = {
    from: from.addresses[0] ?? '',
    to: to.addresses,
    ...survey,
    requireTls: config.requireTls ?? false,
  };
  return { from, to, envelope, content };
}

type Surveyed = Survey & { readonly content: Content };

/** Small messages are made ready in one piece. */
function inMemory(parts: readonly Buffer[]): Surveyed {
  const { data, ...survey } = stuffed(parts);
  return { content: { data }, ...survey };
}

async function streamed(
  config: TransferConfig,
  message: StoredMessage,
  details: Pick<AttachDetails, 'account' | 'id' | 'hostName' | 'to' | 'time'>,
  trace: readonly Buffer[],
): Promise<Surveyed> {
  let survey = message.survey ?? (await surveyed(message));
  const { header, sha256 } = message;
  const frame =
    config.attachFrom === undefined
      ? undefined
      : attachFrame({ ...details, from: config.attachFrom, header, sha256, eightBit: survey.eightBit });
  const top = [...trace, ...(frame ? [frame.top] : [])];
  const bottom = frame ? [frame.bottom] : [];
  for (const part of [...top, ...bottom]) {
    const added = surveyOf(part);
    survey = {
      size: survey.size + added.size,
      eightBit: survey.eightBit || added.eightBit,
      lone: survey.lone || added.lone,
    };
  }
  const chunks = async function* (): AsyncGenerator<Buffer, void, undefined> {
    yield* top;
    yield* piecesOf(message);
    yield* bottom;
  };
  return { ...survey, content: { chunks, lone: survey.lone } };
}

async function surveyed(message: StoredMessage): Promise<Survey> {
  const surveyor = new Surveyor();
  for await (const piece of piecesOf(message)) surveyor.add(piece);
  return surveyor.result();
}

/** The reverse-paths of a destination: one address, or made of each message. */
function senders({ attachFrom, from }: TransferConfig): Envelopes['from'] {
  const made = (address: string): Addressed => (address === '' ? NULL_SENDER : addressed([address]));
  if (attachFrom === undefined && from.kind !== 'address')
    return async (delivery, time) => made(await reversePath(from, delivery, time));
  const ready = made(attachFrom ?? (from.kind === 'address' ? from.address : ''));
  return () => ready;
}

async function reversePath(
  from: Exclude<ReversePath, { kind: 'address' }>,
  delivery: Delivery,
  time: Date,
): Promise<string> {
  // Without a Return-Path the null reverse-path is the one that cannot send a bounce to somebody uninvolved.
  const original = withAsciiDomain(originalReversePath(headerFields(delivery.message.header)) ?? '');
  if (from.kind === 'original') return original;
  const secrets = await Promise.all(from.secrets.map((secret) => secret.reveal()));
  return srsForward(original, { domain: from.domain, secrets }, time);
}

/** Why this server can never take this message, if so: known before anything is sent. */
function unsendable({ from, to, envelope }: Prepared, extensions: Extensions): string | undefined {
  const limit = sizeLimit(extensions);
  if (limit !== undefined && envelope.size > limit) {
    return `the message has ${String(envelope.size)} octets, the server takes ${String(limit)}`;
  }
  const bad = from.bad ?? to.bad;
  if (bad !== undefined) return `${printable(bad, 100)} is no mail address`;
  const international = from.international ?? to.international;
  if (international !== undefined && !extensions.has('SMTPUTF8')) {
    return `${printable(international, 100)} needs SMTPUTF8, which the server does not offer`;
  }
  return undefined;
}

function isHangup(ending: Ending): boolean {
  return ending.kind === 'lost' || (ending.kind === 'refused' && ending.reply.code === 421);
}

function outcomeOf(
  recipients: readonly string[],
  ending: Ending,
  refused: ReadonlyMap<string, Reply> = new Map(),
  settled: ReadonlyMap<string, Reply> = new Map(),
): Outcome {
  return smtpOutcome({ recipients, refused, settled, ending });
}

function failureOutcome(failure: Failure, recipients: readonly string[]): Outcome {
  const parts = [failure.message, failure.said, failure.remedy].filter((part) => part !== undefined);
  const said = printable(parts.join('; '));
  const scope = failure.scope === 'message' ? 'message' : 'destination';
  const each = recipients.map((recipient) => [recipient, { kind: 'deferred' as const, said }] as const);
  const needsPerson = failure.permanent ? { needsPerson: true } : {};
  return { kind: 'deferred', said, scope, ...needsPerson, recipients: Object.fromEntries(each) };
}
