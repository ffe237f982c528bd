/**
 * The circuit breakers of the destinations: shared by all accounts here, and by all workers through Redis. A destination that
 * was paused gets one delivery of one worker first. It never lets a pause that another worker has noted be overwritten unseen.
 */

import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { afterAttempt, CLOSED, retriedNow } from '../sync/retry.ts';
import type { Backoff, Breaker, Sign } from '../sync/retry.ts';
import { breakerKey, probeKey } from './keys.ts';
import { CLAIM_PROBE, RENEW_PROBE, runScript, SET_BREAKER } from './scripts.ts';

/** How long what another worker wrote may stay unknown here. Milliseconds. */
const FRESH = 2000;
/** When mail is looked at again that waits for another delivery's probe. Milliseconds. */
const PROBE_WAIT = 10_000;
/** An opened breaker is forgotten so long after its pause. Milliseconds. */
const EXPIRY = 30 * 24 * 60 * 60_000;
/** The claim of a prober that died holds for so long; one that lives renews it. Milliseconds. */
const CLAIM = 30_000;
/** Workers that write at the same time; who loses so often leaves it to the others. */
const ROUNDS = 10;

/** The right to begin one delivery; `end` or `cancel` must follow. */
export interface Pass {
  readonly destination: string;
  /** Set if this delivery is the probe of a destination that was paused. */
  readonly claim: string | undefined;
}

export interface BreakerTools {
  readonly now: () => number;
  readonly random: () => number;
  /** Called when a destination is paused, each time anew, and when it works again: by the worker that found it out. */
  readonly onChange: (destination: string, breaker: Breaker, reason: string) => void;
  readonly backoff?: Backoff;
}

interface Known {
  readonly breaker: Breaker;
  /** As Redis holds it; empty for none. */
  readonly raw: string;
  readonly read: number;
}

const UNKNOWN: Known = { breaker: CLOSED, raw: '', read: 0 };

export class Breakers {
  readonly #redis: Redis;
  readonly #tools: BreakerTools;
  readonly #known = new Map<string, Known>();
  /** Until when somebody's probe is waited for. */
  readonly #probed = new Map<string, number>();
  readonly #renewals = new Map<string, NodeJS.Timeout>();

  constructor(redis: Redis, tools: BreakerTools) {
    this.#redis = redis;
    this.#tools = tools;
  }

  /** Reads what other workers found out. @throws if Redis is out of reach */
  async refresh(destinations: readonly string[]): Promise<void> {
    const stale = destinations.filter((name) => this.#of(name).read + FRESH <= this.#tools.now());
    await Promise.all(stale.map(async (name) => await this.#read(name)));
  }

  /** When mail may be retrieved for it: 0 for now, else milliseconds since 1970. */
  opensAt(destination: string): number {
    const { openUntil } = this.#of(destination).breaker;
    const now = this.#tools.now();
    if (openUntil > now) return openUntil;
    const probed = openUntil === 0 ? 0 : (this.#probed.get(destination) ?? 0);
    // Long enough that accounts which wait for it are not polled all the time.
    return probed > now ? now + PROBE_WAIT : 0;
  }

  /** How it stands, as far as is known here. */
  of(destination: string): Breaker {
    return this.#of(destination).breaker;
  }

  /** True if it was paused until now: then one message is tried first. */
  isHalfOpen(destination: string): boolean {
    const { openUntil } = this.#of(destination).breaker;
    return openUntil > 0 && openUntil <= this.#tools.now();
  }

  /**
   * Asks for leave to begin one delivery.
   * @returns undefined if the destination is paused, or is being probed by another delivery, here or elsewhere
   */
  enter(destination: string): Pass | undefined | Promise<Pass | undefined> {
    if (this.opensAt(destination) > 0) return undefined;
    return this.isHalfOpen(destination) ? this.#probe(destination) : { destination, claim: undefined };
  }

  async #probe(destination: string): Promise<Pass | undefined> {
    const claim = randomUUID();
    const now = this.#tools.now();
    // Others here need not ask while we do.
    this.#probed.set(destination, now + CLAIM);
    try {
      const keys = [breakerKey(destination), probeKey(destination)];
      const reply = await runScript(this.#redis, CLAIM_PROBE, [...keys, claim, CLAIM, now]);
      const [raw, wait] = reply as [string, number];
      this.#note(destination, raw);
      this.#probed.set(destination, now + Math.min(wait, FRESH));
      if (this.#of(destination).breaker.openUntil === 0) return { destination, claim: undefined };
      if (wait >= 0) return undefined;
    } catch {
      // The next write to the ledger says that Redis is away.
      this.#probed.delete(destination);
      return undefined;
    }
    this.#probed.set(destination, Number.POSITIVE_INFINITY);
    this.#renewals.set(
      claim,
      setInterval(() => void this.#renew(destination, claim, CLAIM), CLAIM / 3),
    );
    return { destination, claim };
  }

  /** A delivery ended without telling anything of the destination. */
  async cancel({ destination, claim }: Pass): Promise<void> {
    if (claim === undefined) return;
    this.#release(destination, claim);
    await this.#renew(destination, claim, 0);
  }

  /** Notes how a delivery ended; at once, where that is no news. Throws nothing: without Redis it holds for this worker all the same. */
  end(pass: Pass, sign: Sign, reason: string): Promise<void> | undefined {
    const { destination, claim } = pass;
    const { now, random, backoff } = this.#tools;
    const isProbe = claim !== undefined;
    const news = (before: Breaker): Breaker =>
      // What was under way when the pause began says nothing new, but for good news.
      !isProbe && before.openUntil > now() && (sign === 'fails' || sign === 'silent' || sign === 'refuses')
        ? before
        : afterAttempt(before, sign, now(), random(), backoff);
    const { breaker: local } = this.#of(destination);
    return !isProbe && news(local) === local ? undefined : this.#write(pass, news, reason);
  }

  async #write({ destination, claim }: Pass, news: (before: Breaker) => Breaker, reason: string): Promise<void> {
    const { now, onChange } = this.#tools;
    let after: Breaker;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const { breaker: before, raw } = this.#of(destination);
        after = news(before);
        if (after !== before && after.failures > 0) after = { ...after, said: printable(reason, 200) };
        const text = after.openUntil === 0 && after.failures === 0 ? '' : JSON.stringify(after);
        const expiry = Math.max(0, after.openUntil - now()) + EXPIRY;
        const keys = [breakerKey(destination), probeKey(destination)];
        const found = await this.#set([...keys, raw, text, expiry, claim ?? '']);
        this.#note(destination, found ?? text);
        if (found !== null) continue;
        if (after.openUntil !== before.openUntil) onChange(destination, after, reason);
        break;
      }
    } catch (error) {
      const { breaker: before } = this.#of(destination);
      after = news(before);
      this.#known.set(destination, { breaker: after, raw: '', read: now() });
      if (after.openUntil !== before.openUntil) onChange(destination, after, `${reason}; ${reasonOf(error)}`);
    } finally {
      if (claim !== undefined) this.#release(destination, claim);
    }
  }

  /** Ends the pauses that wait for a person, who may have done something: these are tried at once. */
  async retry(destinations: readonly string[]): Promise<void> {
    for (const name of destinations) {
      await this.#read(name);
      const { breaker, raw } = this.#of(name);
      const after = retriedNow(breaker, this.#tools.now());
      if (after === breaker) continue;
      const text = JSON.stringify(after);
      const keys = [breakerKey(name), probeKey(name)];
      const found = await this.#set([...keys, raw, text, EXPIRY, '']);
      this.#note(name, found ?? text);
    }
  }

  /** No claim is renewed any more. */
  close(): void {
    for (const timer of this.#renewals.values()) clearInterval(timer);
    this.#renewals.clear();
  }

  /** @returns what another worker has written meanwhile; then nothing was written */
  async #set(keysAndArguments: readonly (string | number)[]): Promise<string | null> {
    return (await runScript(this.#redis, SET_BREAKER, keysAndArguments)) as string | null;
  }

  #release(destination: string, claim: string): void {
    clearInterval(this.#renewals.get(claim));
    this.#renewals.delete(claim);
    this.#probed.delete(destination);
  }

  /** @param milliseconds 0 gives the claim up */
  async #renew(destination: string, claim: string, milliseconds: number): Promise<void> {
    try {
      await runScript(this.#redis, RENEW_PROBE, [probeKey(destination), claim, milliseconds]);
    } catch {
      // It runs out by itself.
    }
  }

  async #read(name: string): Promise<void> {
    this.#note(name, (await this.#redis.get(breakerKey(name))) ?? '');
  }

  #note(name: string, raw: string): void {
    const breaker = decoded(raw);
    this.#known.set(name, { breaker, raw, read: this.#tools.now() });
  }

  #of(destination: string): Known {
    return this.#known.get(destination) ?? UNKNOWN;
  }
}

/** How these destinations stand, as all workers have noted it. @throws if Redis is out of reach */
export async function readBreakers(redis: Redis, destinations: readonly string[]): Promise<Map<string, Breaker>> {
  const raws = await Promise.all(destinations.map(async (name) => await redis.get(breakerKey(name))));
  return new Map(destinations.map((name, index) => [name, decoded(raws[index] ?? '')]));
}

function decoded(raw: string): Breaker {
  return raw === '' ? CLOSED : (JSON.parse(raw) as Breaker);
}
