/**
 * The hold on an account: its lease and its ledger, shared in this process by the poll and by deliveries that outlive the
 * session, so that a slow destination keeps nobody from polling the account again. The last user gives the lease back.
 */

import type { Redis } from 'ioredis';
import { Lease } from '../store/lease.ts';
import { Ledger } from '../store/ledger.ts';
import { isSame } from './entry.ts';
import type { Identity } from './entry.ts';
import { TRAIL_LIMITS } from './trail.ts';
import type { TrailLimits } from './trail.ts';

export class Hold {
  readonly lease: Lease;
  readonly ledger: Ledger;
  /** Deliveries that run now, by unique-id: nearly always one. */
  readonly #inFlight = new Map<string, Running[]>();
  users = 0;
  polling = false;

  constructor(lease: Lease, ledger: Ledger) {
    this.lease = lease;
    this.ledger = ledger;
  }

  begin(entry: Identity, destination: string): void {
    const running = this.#inFlight.get(entry.uniqueId);
    if (running) running.push({ entry, destination });
    else this.#inFlight.set(entry.uniqueId, [{ entry, destination }]);
  }

  end(entry: Identity, destination: string): void {
    const left = (this.#inFlight.get(entry.uniqueId) ?? []).filter((each) => !isRunning(each, entry, destination));
    if (left.length > 0) this.#inFlight.set(entry.uniqueId, left);
    else this.#inFlight.delete(entry.uniqueId);
  }

  inFlight(entry: Identity, destination: string): boolean {
    return this.#inFlight.get(entry.uniqueId)?.some((each) => isRunning(each, entry, destination)) ?? false;
  }
}

interface Running {
  readonly entry: Identity;
  readonly destination: string;
}

function isRunning(running: Running, entry: Identity, destination: string): boolean {
  return running.destination === destination && isSame(running.entry, entry);
}

export class Holds {
  readonly #redis: Redis;
  readonly #held = new Map<string, Hold>();
  readonly #acquiring = new Set<string>();
  readonly #giveUp: AbortSignal | undefined;
  /** What is kept of the audit trail from the next hold on. */
  trail: TrailLimits = TRAIL_LIMITS;

  /** @param giveUp aborted when this process waits for Redis no more */
  constructor(redis: Redis, giveUp?: AbortSignal) {
    this.#redis = redis;
    this.#giveUp = giveUp;
  }

  /**
   * The right to poll this account.
   * @returns undefined while it is polled already, here or elsewhere
   * @throws Failure if Redis is out of reach or the ledger unreadable
   */
  async acquire(account: string): Promise<Hold | undefined> {
    const held = this.#held.get(account);
    if (held) {
      if (held.polling) return undefined;
      // Taken before the wait: two polls may ask at the same time, and the last delivery may end meanwhile.
      held.polling = true;
      held.users += 1;
      if ((await held.lease.confirm()) && !held.ledger.isBroken) return held;
      held.polling = false;
      await this.release(held);
      return undefined;
    }
    if (this.#acquiring.has(account)) return undefined;
    this.#acquiring.add(account);
    try {
      const lease = await Lease.acquire(this.#redis, account);
      if (!lease) return undefined;
      try {
        const hold = new Hold(lease, await Ledger.open(this.#redis, lease, this.#giveUp, this.trail));
        hold.polling = true;
        hold.users = 1;
        this.#held.set(account, hold);
        return hold;
      } catch (error) {
        await lease.release();
        throw error;
      }
    } finally {
      this.#acquiring.delete(account);
    }
  }

  /** One user more, for as long as its deliveries run. */
  share(hold: Hold): void {
    hold.users += 1;
  }

  /** Ends one use; the last frees the lease. */
  async release(hold: Hold): Promise<void> {
    hold.users -= 1;
    if (hold.users > 0 || this.#held.get(hold.lease.account) !== hold) return;
    this.#held.delete(hold.lease.account);
    await hold.lease.release();
  }
}
