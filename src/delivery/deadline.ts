/** One deadline for one operation: a signal that follows its caller's, and a timer that never outlives the work. */

const followers = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls back when the signal aborts, which it must not have yet. For signals that live long and have many who come and go: they
 * share one listener.
 * @returns what ends that
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  let all = followers.get(signal);
  if (all === undefined) {
    const known = new Set<() => void>();
    const tell = (): void => {
      for (const each of known) each();
    };
    signal.addEventListener('abort', tell, { once: true });
    followers.set(signal, known);
    all = known;
  }
  const mine = all;
  mine.add(callback);
  return () => void mine.delete(callback);
}

/** A signal that aborts when another does, or after a time with the reason "`what` within N s". `end` must follow. */
export class Deadline {
  readonly signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  readonly #leave: () => void;

  /** @param milliseconds how long there is from now on */
  constructor(followed: AbortSignal, milliseconds: number, what: string) {
    const controller = new AbortController();
    this.signal = controller.signal;
    const follow = (): void => controller.abort(followed.reason);
    this.#timer = setTimeout(() => {
      controller.abort(new Error(`${what} within ${String(Math.ceil(milliseconds / 1000))} s`));
    }, milliseconds);
    this.#leave = onAbort(followed, follow);
    if (followed.aborted) follow();
  }

  /** Nothing is left behind of it. */
  end(): void {
    clearTimeout(this.#timer);
    this.#leave();
  }
}

/** Runs `work` with a `Deadline`. It is the work's duty to end soon after that. */
export async function withDeadline<T>(
  signal: AbortSignal,
  milliseconds: number,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = new Deadline(signal, milliseconds, what);
  try {
    return await work(deadline.signal);
  } finally {
    deadline.end();
  }
}
