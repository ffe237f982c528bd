/**
 * What this process has learnt of logins that had to be done another way, so that the next session does it at once and no
 * server counts a refused try every few minutes. Holds no secret, and no more than `limit`, least recently used first out.
 */

import type { Method } from './sasl/choose.ts';

export interface Lesson {
  /** Comes first, where the server still offers it. */
  readonly method?: Method;
  /** UTF8 is said although the server does not announce it (RFC 6856 §5). */
  readonly utf8?: boolean;
}

export class Lessons {
  readonly #limit: number;
  readonly #lessons = new Map<string, Lesson>();

  constructor(limit = 10_000) {
    this.#limit = limit;
  }

  /** What is known of a login; nothing, as a rule. */
  of(key: string): Lesson {
    const lesson = this.#lessons.get(key);
    if (lesson === undefined) return {};
    this.#lessons.delete(key);
    this.#lessons.set(key, lesson);
    return lesson;
  }

  /** Adds to what is known. */
  learn(key: string, lesson: Lesson): void {
    this.#lessons.set(key, { ...this.of(key), ...lesson });
    const [oldest] = this.#lessons.keys();
    if (this.#lessons.size > this.#limit && oldest !== undefined) this.#lessons.delete(oldest);
  }
}
