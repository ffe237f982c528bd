/**
 * What a place that mail is delivered to must be able to do. One file a kind stands beside this one; the poll knows only
 * this interface. An implementation never decides what is tried again: it reports an outcome, the policy decides.
 */

import type { StoredMessage } from '../mail/message.ts';

/**
 * How one attempt ended.
 * - `confirmed`: the destination took responsibility (SMTP 2xx after the final dot, HTTP 2xx).
 * - `deferred`: not taken, and a later attempt may succeed (4xx, network, timeout before the final step).
 * - `rejected`: not taken, and will not be (SMTP 5xx, HTTP 4xx but for 408, 425, 429).
 * - `inDoubt`: everything was sent, but the reply to the final step never came. It may have been taken.
 */
export type OutcomeKind = 'confirmed' | 'deferred' | 'rejected' | 'inDoubt';

/** The outcome for one recipient of a destination that knows recipients. */
export interface RecipientOutcome {
  readonly kind: OutcomeKind;
  /** The destination's own words for this recipient, cut and escaped. */
  readonly said: string;
}

export interface Outcome {
  /**
   * Over all recipients: `inDoubt` if any is, else `deferred` if any is, else `rejected` if any is, else `confirmed`.
   */
  readonly kind: OutcomeKind;
  /** The destination's own words (queue id, status line), cut and escaped: the evidence. */
  readonly said: string;
  /**
   * `destination` if any other message would have met the same (connection refused, login failed, HTTP 503): feeds the
   * circuit breaker. `message` if it is this message or its recipients.
   */
  readonly scope: 'message' | 'destination';
  /** Retry-After, in milliseconds, where the destination named one. */
  readonly retryAfter?: number;
  /** By address; absent for destinations without recipients. Holds the recipients of this attempt only. */
  readonly recipients?: Readonly<Record<string, RecipientOutcome>>;
  /** Set if the destination asked never to be called again (HTTP 410). With `deferred`, scope `destination`. */
  readonly gone?: boolean;
  /** Set if our own time limit ended it: the destination has not said anything. With `deferred`. */
  readonly timedOut?: boolean;
  /**
   * Set if it refuses us, not the message, until a person does something: a wrong password, a certificate, an address that
   * is none any more. With `deferred`, scope `destination`.
   */
  readonly needsPerson?: boolean;
}

/** One message on its way to one destination. */
export interface Delivery {
  readonly message: StoredMessage;
  readonly account: string;
  readonly uniqueId: string;
  /**
   * The same for every attempt of this message to this destination, over restarts and a rebuilt ledger: derived from
   * (account, unique-id, fingerprint, destination). At most 64 characters of [A-Za-z0-9_-]. Webhooks send it as
   * `webhook-id`.
   */
  readonly idempotencyKey: string;
  /** 1 for the first. */
  readonly attempt: number;
  /** When mailferry first saw the message. */
  readonly firstSeen: Date;
  /** Recipients that need no further attempt (confirmed or rejected before), by address. */
  readonly settled: ReadonlySet<string>;
  /** Asked when the delivery gets its turn, which may be long after it was asked for. False if it must not begin any more. */
  readonly mayBegin?: () => boolean | Promise<boolean>;
  /** Called once it may: writes down that it begins. Resolves when that is durable; false if it must not be sent. */
  readonly begin?: () => Promise<boolean>;
  /** What `begin` came to, for a destination that has something to say to its server meanwhile: awaited before the message. */
  readonly begun?: Promise<boolean>;
  /** May be called once all has been sent and only the answer is waited for, if another delivery may be sent behind it. */
  readonly onSent?: () => void;
  /** Aborted when the worker must stop at once or the attempt's time is up. */
  readonly signal: AbortSignal;
}

/** A destination with its connections. Made from its config by `delivery/open.ts`; safe to use concurrently. */
export interface Destination {
  readonly name: string;
  /** Deliveries that it takes at a time; left out where that is not known. */
  readonly parallel?: number;
  /** Attempts one delivery. Throws only on bugs: every expected failure is an outcome. Ends soon after `signal` aborts. */
  deliver(delivery: Delivery): Promise<Outcome>;
  /** Connects and authenticates without delivering anything. Throws a `Failure` that explains what is wrong. */
  check(signal: AbortSignal): Promise<string>;
  /** Ends idle connections at once and busy ones when their delivery has ended. */
  close(): Promise<void>;
}

/** A limit over all workers. */
export interface SharedLimit {
  /** Asked for each delivery: undefined is no limit. */
  readonly most: () => number | undefined;
  /** Waits for a place among so many. @returns undefined if `signal` aborts first */
  readonly take: (most: number, signal: AbortSignal) => Promise<{ leave(): void } | undefined>;
}

/** What destinations need of the process around them. */
export interface DestinationContext {
  /** The name of this host, for EHLO and trace fields. */
  readonly hostName: string;
  now(): Date;
}
