/**
 * Places that all workers on one Redis share: so many sessions at one server, so many deliveries to one destination. A place
 * is renewed while it is held, and runs out by itself when its worker dies. It is a courtesy to others, never a safeguard:
 * without Redis every place is granted, and what follows finds out that Redis is away.
 */

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { SharedLimit } from '../delivery/destination.ts';
import { slotsKey } from '../store/keys.ts';
import { runScript } from '../store/scripts.ts';
import type { Script } from '../store/scripts.ts';

/** How long a place lasts without renewal. Milliseconds. */
const SLOT_TIME = 30_000;
/** Between two looks for a free place: between the half and one and a half of it. Milliseconds. */
const LOOK = 200;

/** KEYS sorted set of holders; ARGV the most, holder, milliseconds. -> 1 if there is a place, or the holder has one already. */
const TAKE: Script = {
  name: 'mailferryTakeSlot',
  keys: 1,
  lua: `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) and not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`,
};

/** What is shared, and how many may hold it. */
export interface Place {
  readonly name: string;
  readonly most: number;
}

export interface Slot {
  /** Gives it back. To be called once. */
  leave(): void;
}

export interface SlotsOptions {
  readonly onError: (error: unknown) => void;
  /** Milliseconds. */
  readonly slotTime?: number;
}

export class Slots {
  readonly #redis: Redis;
  readonly #onError: (error: unknown) => void;
  readonly #time: number;
  readonly #id = randomBytes(9).toString('base64url');
  /** Holder -> its place. */
  readonly #held = new Map<string, Place>();
  #serial = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(redis: Redis, { onError, slotTime = SLOT_TIME }: SlotsOptions) {
    this.#redis = redis;
    this.#onError = onError;
    this.#time = slotTime;
  }

  /** One slot in each of these places. @returns undefined if one of them is full; then none is taken */
  async take(places: readonly Place[]): Promise<Slot | undefined> {
    const slots: Slot[] = [];
    const leave = (): void => {
      for (const slot of slots) slot.leave();
    };
    for (const place of places) {
      const slot = await this.#takeOne(place);
      if (!slot) {
        leave();
        return undefined;
      }
      slots.push(slot);
    }
    return { leave };
  }

  /** Waits for a slot. @returns undefined if `signal` aborts first */
  async wait(place: Place, signal: AbortSignal): Promise<Slot | undefined> {
    while (!signal.aborted) {
      const slot = await this.#takeOne(place);
      if (slot) return slot;
      // An abort ends the wait, and the loop.
      await sleep(LOOK * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
    }
    return undefined;
  }

  /** Renews nothing any more: what is still held runs out. */
  close(): void {
    clearInterval(this.#timer);
    this.#held.clear();
  }

  async #takeOne(place: Place): Promise<Slot | undefined> {
    this.#serial += 1;
    const holder = `${this.#id}:${String(this.#serial)}`;
    try {
      if (!(await this.#ask(holder, place))) return undefined;
    } catch (error) {
      this.#onError(error);
      return { leave: () => undefined };
    }
    this.#held.set(holder, place);
    this.#timer ??= setInterval(() => void this.#renew(), this.#time / 3).unref();
    return { leave: () => this.#leave(holder, place) };
  }

  async #ask(holder: string, { name, most }: Place): Promise<boolean> {
    return (await runScript(this.#redis, TAKE, [slotsKey(name), most, holder, this.#time])) === 1;
  }

  #leave(holder: string, { name }: Place): void {
    this.#held.delete(holder);
    if (this.#redis.status !== 'ready') return;
    this.#redis.zrem(slotsKey(name), holder).catch(this.#onError);
  }

  /** One that ran out meanwhile (this process was stopped) and went to another is used to its end all the same. */
  async #renew(): Promise<void> {
    try {
      await Promise.all([...this.#held].map(async ([holder, place]) => await this.#ask(holder, place)));
    } catch (error) {
      this.#onError(error);
    }
  }
}

/** The limit of one destination over all workers. @param most asked each time; undefined is no limit */
export function sharedLimit(destination: string, slots: Slots, most: () => number | undefined): SharedLimit {
  const name = `destination:${destination}`;
  return { most, take: async (limit, signal) => await slots.wait({ name, most: limit }, signal) };
}
