/**
 * The right to poll an account now: one holder over all workers, renewed while it is held. The fencing token outlives it:
 * what a worker writes counts only as long as no newer token was given out.
 */

import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { accountKeys } from './keys.ts';
import { ACQUIRE, RELEASE, RENEW, runScript } from './scripts.ts';

/** How long a lease lasts without renewal. Milliseconds. */
export const LEASE_TIME = 30_000;

/** What a lease aborts with: made once, since every poll ends one. */
const OVER = new Error('the lease of this account is over');

export interface LeaseOptions {
  readonly leaseTime?: number;
  /** A clock that never jumps, in milliseconds. */
  readonly monotonic?: () => number;
}

export class Lease {
  readonly account: string;
  /** Never given out before: a count, and something random. */
  readonly token: string;
  readonly #redis: Redis;
  readonly #time: number;
  readonly #monotonic: () => number;
  readonly #lost = new AbortController();
  #validUntil: number;
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;

  private constructor(redis: Redis, account: string, token: string, asked: number, options: LeaseOptions) {
    this.#redis = redis;
    this.account = account;
    this.token = token;
    this.#time = options.leaseTime ?? LEASE_TIME;
    this.#monotonic = options.monotonic ?? (() => performance.now());
    this.#validUntil = asked + this.#time;
    this.#schedule();
  }

  /** @returns undefined while another worker has it */
  static async acquire(redis: Redis, account: string, options: LeaseOptions = {}): Promise<Lease | undefined> {
    const asked = (options.monotonic ?? (() => performance.now()))();
    const { lease, fence } = accountKeys(account);
    const token = await runScript(redis, ACQUIRE, [lease, fence, options.leaseTime ?? LEASE_TIME, randomUUID()]);
    return typeof token === 'string' ? new Lease(redis, account, token, asked, options) : undefined;
  }

  /** True while no other worker can have got the lease: asked before every step that cannot be undone. */
  get isValid(): boolean {
    return !this.#lost.signal.aborted && this.#monotonic() < this.#validUntil;
  }

  /** Aborted once another worker has it. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** A write was refused: a newer token was given out. */
  markLost(): void {
    this.#lost.abort(OVER);
  }

  /** Waits for a renewal if the time is over (this process may have been stopped), so that `isValid` tells the truth. */
  async confirm(): Promise<boolean> {
    // The renewal that is under way may have been asked for before this process was stopped.
    for (let tries = 0; tries < 2 && !this.isValid && !this.#lost.signal.aborted; tries += 1) await this.#renew();
    return this.isValid;
  }

  /** Ends renewal and frees the lease, if it is still ours. A Redis out of reach lets it run out instead. */
  async release(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#renewing;
    const { lease, fence } = accountKeys(this.account);
    await runScript(this.#redis, RELEASE, [lease, fence, this.token]).catch(ignoreUnreachable);
    this.#lost.abort(OVER);
  }

  #schedule(): void {
    this.#timer = setTimeout(() => {
      void this.#renew().then(() => {
        if (this.#timer !== undefined && !this.#lost.signal.aborted) this.#schedule();
      });
    }, this.#time / 3);
    this.#timer.unref();
  }

  async #renew(): Promise<void> {
    this.#renewing ??= this.#renewOnce().finally(() => (this.#renewing = undefined));
    await this.#renewing;
  }

  async #renewOnce(): Promise<void> {
    const asked = this.#monotonic();
    const { lease, fence } = accountKeys(this.account);
    try {
      const renewed = await runScript(this.#redis, RENEW, [lease, fence, this.token, this.#time]);
      if (renewed === 1) this.#validUntil = asked + this.#time;
      else this.#lost.abort(OVER);
    } catch (error) {
      ignoreUnreachable(error);
    }
  }
}

/** Without Redis a lease simply runs out: `isValid` turns false by the clock, and nothing is written. */
function ignoreUnreachable(_error: unknown): void {}
