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
  readonly #looking = new Set<() => void>();

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

  /**
   * Does some work once there is room for it; or when nothing has left for `milliseconds`, or `signal` aborts: who waits here
   * must not wait for ever because somebody else does.
   */
  async within<T>(octets: number, milliseconds: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    // Several may have been told of the same room.
    for (let goesOn = true; goesOn && !this.hasRoom(octets);)
      goesOn = await this.until(() => this.hasRoom(octets), milliseconds, signal);
    this.enter(octets);
    try {
      return await work();
    } finally {
      this.leave(octets);
    }
  }

  /** Other limits from here on; what has entered stays. */
  resize(limits: WindowLimits): void {
    this.#limits = limits;
    this.#wake();
  }

  #wake(): void {
    for (const look of this.#looking) look();
  }

  /**
   * Waits until it is `ready`, asked at each `leave` and when the limits change.
   * @returns false if none of these came for `milliseconds`, or `signal` aborted
   */
  async until(ready: () => boolean, milliseconds: number, signal: AbortSignal): Promise<boolean> {
    if (ready()) return true;
    if (signal.aborted) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const giveUp = (): void => resolve(false);
    const timer = setTimeout(giveUp, milliseconds);
    const look = (): void => {
      timer.refresh();
      if (ready()) resolve(true);
    };
    signal.addEventListener('abort', giveUp, { once: true });
    this.#looking.add(look);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#looking.delete(look);
      signal.removeEventListener('abort', giveUp);
    }
  }
}
