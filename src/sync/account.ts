/** How an account stands between two polls: what the ledger holds of it beside its messages. Pure. */

import type { Acquaintance } from './acquaintance.ts';
import type { Hold } from './retry.ts';

export interface Trouble extends Hold {
  readonly code: string;
  readonly message: string;
  readonly remedy: string;
  /** When this began. */
  readonly since: number;
}

/** All times in milliseconds since 1970; 0 is never. */
export interface AccountState {
  /** When the first poll ended well. */
  readonly polledSince: number;
  readonly lastPoll: number;
  readonly lastSuccess: number;
  /** Failed sessions in a row. */
  readonly failures: number;
  readonly trouble: Trouble | undefined;
  /** The server wants no login before this (LOGIN-DELAY, RFC 2449 §6.5). */
  readonly notBefore: number;
  /** Set by a person after the ledger was lost: what to do with what lies there. */
  readonly resume: 'deliver' | 'skip' | undefined;
  /** What the server can do, as it said itself not long ago. */
  readonly server: Acquaintance | undefined;
  readonly listing: {
    /** True if every message of the last listing is known, and still lies there as far as we know. */
    readonly complete: boolean;
    readonly count: number;
    readonly octets: number;
    readonly lastUniqueId: string;
    readonly at: number;
  };
  /** When something in the ledger becomes due by itself; 0 if nothing does. */
  readonly next: number;
  /** True if messages were left for a further poll. */
  readonly more: boolean;
  readonly counts: Counts;
}

/** Messages by what they wait for, as of the last poll. */
export interface Counts {
  /** Waiting for a further attempt. */
  readonly deferred: number;
  readonly quarantined: number;
  /** Deliveries that may have been made twice, ever. */
  readonly inDoubt: number;
  /** Delivered, ever. */
  readonly delivered: number;
  /** Deleted and proved by QUIT, ever. */
  readonly deleted: number;
}

export const NEW_ACCOUNT: AccountState = {
  polledSince: 0,
  lastPoll: 0,
  lastSuccess: 0,
  failures: 0,
  trouble: undefined,
  notBefore: 0,
  resume: undefined,
  server: undefined,
  listing: { complete: false, count: -1, octets: 0, lastUniqueId: '', at: 0 },
  next: 0,
  more: false,
  counts: { deferred: 0, quarantined: 0, inDoubt: 0, delivered: 0, deleted: 0 },
};
