/** How far the story has got: passes each moment on, and lets others wait until it is somewhere. */

import type { Moment, Tell } from './narrator.ts';

export class Course {
  /** Ends all waiting. */
  readonly signal: AbortSignal;
  readonly #tell: Tell;
  readonly #told = new Set<Moment['event']>();
  readonly #looks = new Set<() => void>();

  constructor(tell: Tell, signal: AbortSignal) {
    this.#tell = tell;
    this.signal = signal;
  }

  readonly tell = (moment: Moment): void => {
    this.#told.add(moment.event);
    this.#tell(moment);
    for (const look of this.#looks) look();
  };

  hasTold(event: Moment['event']): boolean {
    return this.#told.has(event);
  }

  /** Resolves once a moment has made the condition true. @returns false if waiting was ended before that */
  async reached(condition: () => boolean): Promise<boolean> {
    if (!condition() && !this.signal.aborted) {
      await new Promise<void>((resolve) => {
        const look = (): void => {
          if (!condition() && !this.signal.aborted) return;
          this.#looks.delete(look);
          this.signal.removeEventListener('abort', look);
          resolve();
        };
        this.#looks.add(look);
        this.signal.addEventListener('abort', look);
      });
    }
    return !this.signal.aborted;
  }
}
