/** One deadline over all steps of an operation: a signal, and a timer that never outlives the work. */

/** How an operation is bounded. */
export interface Bounds {
  /** Milliseconds, over all steps together. */
  readonly timeout: number;
  readonly signal?: AbortSignal | undefined;
}

/** Why a bounded operation was ended from outside. */
export class Ended extends Error {
  override readonly name = 'Ended';
  readonly kind: 'timeout' | 'stopped';

  constructor(kind: 'timeout' | 'stopped', message: string) {
    super(message);
    this.kind = kind;
  }
}

/**
 * Runs `work` with a signal that aborts (reason: `Ended`) after `timeout` milliseconds or when the caller's does. It is
 * the work's duty to end soon after; nothing is left behind once it has.
 */
export async function withDeadline<T>(bounds: Bounds, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { timeout, signal } = bounds;
  const controller = new AbortController();
  const stop = (): void => {
    controller.abort(new Ended('stopped', 'stopped'));
  };
  const timer = setTimeout(() => {
    controller.abort(new Ended('timeout', `no answer within ${seconds(timeout)}`));
  }, timeout);
  if (signal?.aborted === true) stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

/**
 * A promise for something that events decide: `start` subscribes, hands the end to `resolve` or `reject`, and returns
 * what undoes the subscription. Rejects with the signal's reason when it aborts.
 */
export async function settled<T>(
  signal: AbortSignal,
  start: (resolve: (value: T) => void, reject: (error: unknown) => void) => () => void,
): Promise<T> {
  signal.throwIfAborted();
  let undo: (() => void) | undefined;
  let abort: (() => void) | undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      abort = () => {
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', abort, { once: true });
      undo = start(resolve, reject);
    });
  } finally {
    undo?.();
    if (abort !== undefined) signal.removeEventListener('abort', abort);
  }
}

function seconds(milliseconds: number): string {
  return milliseconds < 1000 ? `${String(milliseconds)} ms` : `${String(Math.round(milliseconds / 1000))} s`;
}
