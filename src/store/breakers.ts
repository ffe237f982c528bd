/** The circuit breakers of the destinations: shared by all accounts here, and by all workers through Redis. */

import type { Redis } from 'ioredis';
import { reasonOf } from '../failure.ts';
import { afterAttempt, CLOSED } from '../sync/retry.ts';
import type { Breaker } from '../sync/retry.ts';
import { breakerKey } from './keys.ts';

/** How long what another worker wrote may stay unknown here. Milliseconds. */
const FRESH = 2000;
/** An opened breaker is forgotten this long after its last failure. Seconds. */
const EXPIRY = 24 * 60 * 60;

export class Breakers {
  readonly #redis: Redis;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #onChange: (destination: string, breaker: Breaker, reason: string) => void;
  readonly #known = new Map<string, { breaker: Breaker; read: number }>();
  readonly #probing = new Set<string>();

  constructor(
    redis: Redis,
    tools: {
      readonly now: () => number;
      readonly random: () => number;
      readonly onChange: (destination: string, breaker: Breaker, reason: string) => void;
    },
  ) {
    this.#redis = redis;
    this.#now = tools.now;
    this.#random = tools.random;
    this.#onChange = tools.onChange;
  }

  /** Reads what other workers found out. @throws if Redis is out of reach */
  async refresh(destinations: readonly string[]): Promise<void> {
    const stale = destinations.filter((name) => (this.#known.get(name)?.read ?? 0) + FRESH <= this.#now());
    await Promise.all(
      stale.map(async (name) => {
        const value = await this.#redis.get(breakerKey(name));
        this.#known.set(name, { breaker: value === null ? CLOSED : (JSON.parse(value) as Breaker), read: this.#now() });
      }),
    );
  }

  /** When mail may be retrieved for it: 0 for now, else milliseconds since 1970. */
  opensAt(destination: string): number {
    const { openUntil } = this.#breaker(destination);
    if (openUntil > this.#now()) return openUntil;
    return this.#probing.has(destination) ? this.#now() + FRESH : 0;
  }

  /** True if it failed until now: then one message is tried first. */
  isHalfOpen(destination: string): boolean {
    return this.#breaker(destination).openUntil > 0;
  }

  /** Marks the start of an attempt. */
  begin(destination: string): void {
    if (this.isHalfOpen(destination)) this.#probing.add(destination);
  }

  /** An attempt ended without telling anything of the destination. */
  cancel(destination: string): void {
    this.#probing.delete(destination);
  }

  /** Notes how an attempt ended. @param reached false if any other message would have failed as well */
  async end(destination: string, reached: boolean, reason: string): Promise<void> {
    this.#probing.delete(destination);
    const before = this.#breaker(destination);
    if (reached && before.failures === 0) return;
    // Attempts that were under way when it opened say nothing new.
    if (!reached && before.openUntil > this.#now()) return;
    const after = afterAttempt(before, reached, this.#now(), this.#random());
    this.#known.set(destination, { breaker: after, read: this.#now() });
    if (before.openUntil > 0 !== after.openUntil > 0) this.#onChange(destination, after, reason);
    try {
      if (after.failures === 0) await this.#redis.del(breakerKey(destination));
      else await this.#redis.set(breakerKey(destination), JSON.stringify(after), 'EX', EXPIRY);
    } catch (error) {
      // It holds for this worker all the same; the others find out for themselves.
      this.#onChange(destination, after, reasonOf(error));
    }
  }

  #breaker(destination: string): Breaker {
    return this.#known.get(destination)?.breaker ?? CLOSED;
  }
}
