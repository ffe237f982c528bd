/**
 * The limits that every destination has, whatever its kind: so many deliveries at a time, here and over all workers, and so long
 * for each. A destination that hangs for ever holds up its own deliveries only, and each of those only for its time.
 */

import { Deadline, onAbort } from './deadline.ts';
import type { Delivery, Destination, Outcome, SharedLimit } from './destination.ts';

export interface Limits {
  /** Deliveries at a time, first come, first served. */
  readonly limit: number;
  /** Each of them is aborted after so many milliseconds from the moment it gets its turn. */
  readonly timeout: number;
  /** It waits for `begun` itself; for others that is done here, before they hear of the delivery. */
  readonly announces: boolean;
  readonly shared?: SharedLimit | undefined;
}

/** The destination within limits. A delivery that says `onSent` gives its turn on, but not its place in the shared limit. */
export function withLimits(destination: Destination, { limit, timeout, announces, shared }: Limits): Destination {
  const gate = new Gate(limit);
  return {
    name: destination.name,
    parallel: limit,
    check: (signal) => destination.check(signal),
    close: () => destination.close(),
    async deliver(delivery: Delivery): Promise<Outcome> {
      if (!(await gate.enter(delivery.signal))) return stopped();
      let isIn = true;
      const leave = (): void => {
        if (isIn) gate.leave();
        isIn = false;
      };
      let place: { leave(): void } | undefined;
      let deadline: Deadline | undefined;
      try {
        const most = shared?.most();
        if (shared && most !== undefined) {
          place = await shared.take(most, delivery.signal);
          if (!place) return stopped();
        }
        const may = delivery.mayBegin?.() ?? true;
        if (!(may instanceof Promise ? await may : may)) return stopped();
        const begun = delivery.begin?.();
        if (!announces && !((await begun) ?? true)) return stopped();
        deadline = new Deadline(delivery.signal, timeout, 'not finished');
        const { signal } = deadline;
        const own = { ...delivery, signal, onSent: leave };
        const writing = announces && begun ? new Writing(begun, signal) : undefined;
        const outcome = await destination.deliver(writing ? { ...own, begun: writing.ended } : own);
        // Then our own ledger held it up, not the destination.
        if (writing?.isLate === true) return stopped('it was not written down in time that it begins');
        return signal.aborted && outcome.kind === 'deferred' ? { ...outcome, timedOut: true } : outcome;
      } finally {
        deadline?.end();
        place?.leave();
        leave();
      }
    },
  };
}

/** What is written down while the destination works: false for it as well if that takes too long. */
class Writing {
  readonly ended: Promise<boolean>;
  isLate = false;

  constructor(begun: Promise<boolean>, signal: AbortSignal) {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.ended = promise;
    let isWritten = false;
    void begun.then((mayGoOn) => {
      isWritten = true;
      resolve(mayGoOn);
    });
    const giveUp = (): void => {
      this.isLate = !isWritten;
      resolve(false);
    };
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
  }
}

/** What comes of a delivery that must not be sent. */
export function stopped(said = 'stopped before its turn came'): Outcome {
  return { kind: 'deferred', said, scope: 'message' };
}

/** A counting semaphore whose waiters can leave the queue. */
export class Gate {
  readonly #waiters = new Set<(entered: boolean) => void>();
  #free: number;

  constructor(limit: number) {
    this.#free = limit;
  }

  /** True once inside: `leave` must follow. False if `signal` aborted first. */
  async enter(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    return new Promise<boolean>((resolve) => {
      const settle = (entered: boolean): void => {
        this.#waiters.delete(settle);
        unfollow();
        resolve(entered);
      };
      const unfollow = onAbort(signal, () => settle(false));
      this.#waiters.add(settle);
    });
  }

  /** Lets the next one in. */
  leave(): void {
    const [next] = this.#waiters;
    if (next === undefined) this.#free++;
    else next(true);
  }
}
