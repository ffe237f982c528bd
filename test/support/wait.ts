/** Waiting for a condition in tests: instead of sleeping for luck, and never without an end. */

import { setTimeout as sleep } from 'node:timers/promises';

export interface Wait {
  /** Milliseconds until it gives up. */
  readonly timeout?: number;
  /** Milliseconds between looks; the first looks come faster. */
  readonly interval?: number;
  /** What is waited for, for the error. */
  readonly what?: string;
}

/**
 * Looks until `condition` gives something truthy, and returns that. What it throws counts as "not yet", and becomes the
 * cause of the error at the end of the wait (default: 10 seconds).
 */
export async function until<T>(condition: () => T | Promise<T>, options: Wait = {}): Promise<NonNullable<T>> {
  const { timeout = 10_000, interval = 20, what = condition.toString() } = options;
  const end = performance.now() + timeout;
  let pause = 1;
  let last: unknown;
  for (;;) {
    try {
      last = undefined;
      const value = await condition();
      if (value) return value;
    } catch (thrown) {
      last = thrown;
    }
    if (performance.now() >= end) break;
    await sleep(pause);
    pause = Math.min(pause * 2, interval);
  }
  throw new Error(`waited ${String(timeout)} ms in vain: ${what}`, last === undefined ? undefined : { cause: last });
}
