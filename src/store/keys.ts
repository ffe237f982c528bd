/** Every Redis key of mailferry but BullMQ's. All keys of an account carry one hash tag, so that a script may touch them together in a cluster. */

export interface AccountKeys {
  /** Who may poll now: the fencing token, expiring. */
  readonly lease: string;
  /** The newest fencing token given out. */
  readonly fence: string;
  /** Hash: how the account stands (`AccountState`). */
  readonly state: string;
  /** Hash, unique-id -> entries that need something: not yet confirmed everywhere, or deleted and not yet forgotten. */
  readonly open: string;
  /** Hash, unique-id -> entries that are settled and stay on the server. */
  readonly settled: string;
  /** Stream: what happened to each message, capped. */
  readonly trail: string;
}

/** @param name of the account, as in the config */
export function accountKeys(name: string): AccountKeys {
  const prefix = `mailferry:{${name}}`;
  return {
    lease: `${prefix}:lease`,
    fence: `${prefix}:fence`,
    state: `${prefix}:state`,
    open: `${prefix}:open`,
    settled: `${prefix}:settled`,
    trail: `${prefix}:trail`,
  };
}

/** Hash, account -> when it was first polled: the marker that tells an emptied ledger from a new account. */
export const POLLED_ACCOUNTS = 'mailferry:polled';

/** The circuit breaker of a destination. */
export function breakerKey(destination: string): string {
  return `mailferry:{destination:${destination}}:breaker`;
}

/** Who may try a destination first that was paused. */
export function probeKey(destination: string): string {
  return `mailferry:{destination:${destination}}:probe`;
}

/** Sorted set: who holds a place that all workers share, by when that runs out. */
export function slotsKey(place: string): string {
  return `mailferry:{slots:${place}}`;
}

/** Hash, worker -> what it last said of itself. */
export const WORKERS = 'mailferry:workers';

/** BullMQ's prefix; in braces, so that a cluster keeps a queue in one slot. */
export const QUEUE_PREFIX = '{mailferry}';
