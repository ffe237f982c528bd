/**
 * Connections of one destination that are kept for the next delivery. It only keeps what is idle: how many are busy is
 * bounded by whoever bounds the deliveries (`limited.ts`). A connection that may be out of step is never kept.
 */

export interface Pooled {
  readonly usable: boolean;
  quit(): void;
  close(): void;
}

export interface PoolLimits {
  readonly maxIdle: number;
  /** Milliseconds; shorter than the servers' own, so that they do not hang up first. */
  readonly idleTimeout: number;
}

export interface Lease<T> {
  readonly connection: T;
  /** It has served before: it may have been closed by the server without our noticing. */
  readonly reused: boolean;
}

export class Pool<T extends Pooled> {
  readonly #open: (signal: AbortSignal) => Promise<T>;
  readonly #limits: PoolLimits;
  readonly #idle = new Map<T, NodeJS.Timeout>();
  #closed = false;

  constructor(open: (signal: AbortSignal) => Promise<T>, limits: PoolLimits) {
    this.#open = open;
    this.#limits = limits;
  }

  /** An idle connection, or a new one. Throws what opening throws. */
  async acquire(signal: AbortSignal, options: { readonly fresh?: boolean } = {}): Promise<Lease<T>> {
    for (const [connection, timer] of options.fresh === true ? [] : this.#idle) {
      this.#forget(connection, timer);
      if (connection.usable) return { connection, reused: true };
      connection.close();
    }
    return { connection: await this.#open(signal), reused: false };
  }

  /** Gives a connection back that is in step and ready for the next transaction. */
  release(connection: T): void {
    if (this.#closed || !connection.usable || this.#idle.size >= this.#limits.maxIdle) {
      connection.quit();
      return;
    }
    const timer = setTimeout(() => {
      this.#idle.delete(connection);
      connection.quit();
    }, this.#limits.idleTimeout);
    timer.unref();
    this.#idle.set(connection, timer);
  }

  /** Ends what is idle. What is busy ends when it is released. */
  close(): void {
    this.#closed = true;
    for (const [connection, timer] of this.#idle) {
      this.#forget(connection, timer);
      connection.quit();
    }
  }

  #forget(connection: T, timer: NodeJS.Timeout): void {
    clearTimeout(timer);
    this.#idle.delete(connection);
  }
}
