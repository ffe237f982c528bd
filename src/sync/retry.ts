/**
 * The failure policy: the one place that says what is tried again, when, and when a person is needed. Pure: time and
 * chance come in as arguments. Unknown means temporary.
 */

import type { Outcome } from '../delivery/destination.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
/** What a server may ask us to wait at most. */
const LONGEST = 24 * HOUR;

/** Exponential backoff: the ceiling doubles from `base` with each failure up to `cap`. */
export interface Backoff {
  readonly base: number;
  readonly cap: number;
}

export const DELIVERY_BACKOFF: Backoff = { base: MINUTE, cap: 4 * HOUR };
export const ACCOUNT_BACKOFF: Backoff = { base: 30 * SECOND, cap: 30 * MINUTE };
/** Wrong passwords: slow enough that no server locks an account over it. */
export const LOGIN_BACKOFF: Backoff = { base: 5 * MINUTE, cap: 6 * HOUR };
export const BREAKER_BACKOFF: Backoff = { base: 15 * SECOND, cap: 15 * MINUTE };

/** A message that cannot be retrieved this often in a row needs a person. */
export const RETRIEVAL_ATTEMPTS = 5;
/** An -ERR to the password without a response code may be throttling; after this many in a row it is the password. */
export const AMBIGUOUS_LOGINS = 3;

/**
 * Full jitter: anywhere below the ceiling, so that what failed together does not come back together; but never at once.
 * @param failures so far, from 1
 * @param random in [0, 1)
 * @returns milliseconds, at least a tenth of `base`
 */
export function backoff({ base, cap }: Backoff, failures: number, random: number): number {
  return Math.round(Math.max(base / 10, ceilingOf({ base, cap }, failures) * random));
}

/** The longest that `backoff` may give. */
export function ceilingOf({ base, cap }: Backoff, failures: number): number {
  return Math.min(cap, base * 2 ** Math.min(30, Math.max(0, failures - 1)));
}

export interface DeliveryVerdict {
  readonly next: 'retry' | 'giveUp' | 'reject';
  /** For `retry`: when, in milliseconds since 1970. */
  readonly at: number;
}

/** What follows an attempt that did not confirm. */
export function afterDelivery(
  outcome: {
    readonly kind: 'deferred' | 'rejected' | 'inDoubt';
    readonly retryAfter?: number;
    /** The destination refuses us, not the message: then the message waits for as long as that lasts. */
    readonly needsPerson?: boolean;
  },
  record: {
    readonly attempt: number;
    /** When its attempts began; milliseconds since 1970. */
    readonly since: number;
    readonly giveUpAfter: number;
    readonly backoff: Backoff;
  },
  now: number,
  random: number,
): DeliveryVerdict {
  if (outcome.kind === 'rejected') return { next: 'reject', at: 0 };
  const wait = Math.max(backoff(record.backoff, record.attempt, random), Math.min(outcome.retryAfter || 0, LONGEST));
  if (outcome.needsPerson !== true && now >= record.since + record.giveUpAfter) return { next: 'giveUp', at: 0 };
  return { next: 'retry', at: now + wait };
}

/** What a failed session says, in the terms the policy decides by. */
export interface SessionFailure {
  readonly kind: 'connect' | 'tls' | 'timeout' | 'closed' | 'protocol' | 'refused' | 'auth' | 'policy' | 'other';
  /** The POP3 response code (RFC 2449 §8, RFC 3206), upper case, without brackets. */
  readonly responseCode?: string | undefined;
  /** Of the LOGIN-DELAY capability, seconds. */
  readonly loginDelay?: number | undefined;
  /** True if trying again unchanged cannot help (a certificate for another name). */
  readonly permanent?: boolean | undefined;
}

/** How an account stands after a failed session. */
export interface Hold {
  /** No session before this time. */
  readonly until: number;
  /** True if it will not go away by itself: shown by `status`. */
  readonly needsPerson: boolean;
}

/** When an account whose session failed is tried next. @param failures failed sessions in a row, this one included */
export function afterSession(failure: SessionFailure, failures: number, now: number, random: number): Hold {
  const wait = (schedule: Backoff): number => now + backoff(schedule, failures, random);
  // Never early: each refused login brings the account nearer to being locked.
  const login = now + Math.round(ceilingOf(LOGIN_BACKOFF, failures) * (0.5 + random / 2));
  const code = failure.responseCode?.toUpperCase() ?? '';
  if (code === 'IN-USE') return { until: now + Math.round((30 + random * 60) * SECOND), needsPerson: failures >= 20 };
  if (code === 'LOGIN-DELAY') {
    return {
      until:
        now + Math.max(Math.min((failure.loginDelay ?? 0) * SECOND, LONGEST), Math.round((60 + random * 30) * SECOND)),
      needsPerson: false,
    };
  }
  if (code.startsWith('SYS/PERM')) return { until: login, needsPerson: true };
  if (code.startsWith('SYS')) return { until: wait(ACCOUNT_BACKOFF), needsPerson: failures >= 10 };
  if (code.startsWith('AUTH')) return { until: login, needsPerson: true };
  if (failure.kind === 'auth') return { until: login, needsPerson: failures >= AMBIGUOUS_LOGINS };
  if (failure.permanent === true || failure.kind === 'policy')
    return { until: wait(ACCOUNT_BACKOFF), needsPerson: true };
  return { until: wait(ACCOUNT_BACKOFF), needsPerson: failures >= 10 };
}

/** What is known of a destination by all workers. */
export interface Breaker {
  /** Destination-wide failures in a row. */
  readonly failures: number;
  /** 0 while it is closed; open until then, and from then on half open: one delivery is tried first. */
  readonly openUntil: number;
  /** True if it will not go away by itself: a wrong password, an address that is none any more. */
  readonly needsPerson?: boolean;
  /** It asked never to be called again. */
  readonly gone?: boolean;
  /** When the first of these failures came. */
  readonly since?: number;
  /** Its words at the last of them, cut and escaped. */
  readonly said?: string;
}

export const CLOSED: Breaker = { failures: 0, openUntil: 0 };

/**
 * What a delivery that has ended says of its destination.
 * - `works`: it answers, whatever it made of this message. `fails`: any other message would have failed as well.
 * - `silent`: no answer came in time, or none to the whole message: it may be the message, or the destination.
 * - `refuses`: it refuses us rather than the message, until a person does something. `gone`: it wants nothing any more.
 */
export type Sign = 'works' | 'fails' | 'silent' | 'refuses' | 'gone';

/** What an outcome says of its destination. */
export function signOf({ kind, scope, gone, needsPerson, timedOut }: Omit<Outcome, 'said'>): Sign {
  if (gone === true) return 'gone';
  if (kind === 'inDoubt' || timedOut === true) return 'silent';
  if (kind === 'confirmed' || scope === 'message') return 'works';
  return needsPerson === true ? 'refuses' : 'fails';
}

/** Two failures may be bad luck; from here on mail is not retrieved just to fail. */
const BREAKER_THRESHOLD = 3;
/** A destination that is gone is not asked again before that, unless a person says so. */
const GONE_PAUSE = 30 * 24 * HOUR;

/** The breaker after an attempt; the same object if nothing has changed. */
export function afterAttempt(
  breaker: Breaker,
  sign: Sign,
  now: number,
  random: number,
  pauses: Backoff = BREAKER_BACKOFF,
): Breaker {
  if (sign === 'works') return breaker.failures === 0 ? breaker : CLOSED;
  if (sign === 'silent' && breaker.openUntil === 0) return breaker;
  const failures = breaker.failures + 1;
  const since = breaker.since ?? now;
  if (sign === 'gone') return { failures, openUntil: now + GONE_PAUSE, needsPerson: true, gone: true, since };
  const over = failures - BREAKER_THRESHOLD;
  if (over < 0) return { failures, openUntil: 0, since };
  if (sign !== 'refuses') return { failures, openUntil: now + backoff(pauses, over + 1, random), since };
  // Never early: each refused login brings ours nearer to being locked.
  const wait = ceilingOf(LOGIN_BACKOFF, over + 1) * (0.5 + random / 2);
  return { failures, openUntil: now + Math.round(wait), needsPerson: true, since };
}

/** The breaker after a person may have helped: half open, if it waited for one. */
export function retriedNow(breaker: Breaker, now: number): Breaker {
  return breaker.needsPerson === true && breaker.openUntil > now ? { ...breaker, openUntil: now } : breaker;
}

/** The earlier of two times; 0 is none. */
export function earlier(one: number, other: number): number {
  return one === 0 || other === 0 ? one + other : Math.min(one, other);
}
