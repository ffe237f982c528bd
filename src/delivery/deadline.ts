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

/**
 * Runs `work` with a signal that aborts when `signal` does, or after `milliseconds` with the reason "`what` within N s".
 * Nothing is left behind when the work has ended. It is the work's duty to end soon after.
 */
export async function withDeadline<T>(
  signal: AbortSignal,
  milliseconds: number,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const follow = (): void => {
    controller.abort(signal.reason);
  };
  const timer = setTimeout(() => {
    controller.abort(new Error(`${what} within ${String(Math.ceil(milliseconds / 1000))} s`));
  }, milliseconds);
  const leave = onAbort(signal, follow);
  if (signal.aborted) follow();
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    leave();
  }
}
