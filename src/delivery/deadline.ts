/** One deadline for one operation: a signal that follows its caller's, and a timer that never outlives the work. */

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
  signal.addEventListener('abort', follow, { once: true });
  if (signal.aborted) follow();
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', follow);
  }
}
