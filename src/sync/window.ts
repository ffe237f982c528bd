/** How much of a maildrop may be on its way at a time: a bound in messages and in octets, waited for, never exceeded by much. */

export interface WindowLimits {
  readonly messages: number;
  readonly octets: number;
}

const RELAXED = 0.75;

export class Window {
  #limits: WindowLimits;
  #messages = 0;
  #octets = 0;
  #waiting: (() => void)[] = [];

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  get isEmpty(): boolean {
    return this.#messages === 0;
  }

  /** True if a message of that many octets may start. One always may, however large. */
  hasRoom(octets: number): boolean {
    if (this.#messages === 0) return true;
    return this.#messages < this.#limits.messages && this.#octets + octets <= this.#limits.octets;
  }

  /** True if a good part of it is free. */
  get isRelaxed(): boolean {
    const { messages, octets } = this.#limits;
    return this.#messages <= messages * RELAXED && this.#octets <= octets * RELAXED;
  }

  enter(octets: number): void {
    this.#messages += 1;
    this.#octets += octets;
  }

  leave(octets: number): void {
    this.#messages -= 1;
    this.#octets -= octets;
    this.#wake();
  }

  /** Other limits from here on; what has entered stays. */
  resize(limits: WindowLimits): void {
    this.#limits = limits;
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  /**
   * Waits for the next `leave`, or other limits.
   * @returns false if none came within `milliseconds`, or `signal` aborted
   */
  async changed(milliseconds: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const giveUp = (): void => resolve(false);
    const timer = setTimeout(giveUp, milliseconds);
    signal.addEventListener('abort', giveUp, { once: true });
    this.#waiting.push(() => resolve(true));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
    }
  }
}
