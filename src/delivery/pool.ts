/**
 * Connections of one destination that are kept for the next delivery. How many are busy is bounded by whoever bounds the
 * deliveries (`limited.ts`). A connection that may be out of step is never kept.
 */

export interface Pooled {
  readonly usable: boolean;
  /** An answer is waited for; the next delivery would go behind it. */
  readonly pending: boolean;
  /** Nothing of it is open any more. */
  readonly closed: boolean;
  /** Ends in peace, once what is waited for has come. */
  quit(): void;
  close(): void;
}

export interface PoolLimits {
  /** Connections, busy ones included, up to which a new one is better than one that waits for an answer; and idle ones kept. */
  readonly most: number;
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
  /** All that are open, as far as we know, and how many are being opened. */
  readonly #live = new Set<T>();
  /** Those that have said QUIT and may not have gone yet. */
  readonly #leaving = new Set<T>();
  #opening = 0;
  #closed = false;

  constructor(open: (signal: AbortSignal) => Promise<T>, limits: PoolLimits) {
    this.#open = open;
    this.#limits = limits;
  }

  /** An idle connection, or a new one, or one that waits for an answer. Throws what opening throws. */
  async acquire(signal: AbortSignal, options: { readonly fresh?: boolean } = {}): Promise<Lease<T>> {
    let waiting: T | undefined;
    for (const connection of options.fresh === true ? [] : this.#idle.keys()) {
      if (!connection.usable) {
        this.#forget(connection, this.#idle.get(connection));
        this.#live.delete(connection);
        connection.close();
      } else if (connection.pending) waiting ??= connection;
      else {
        this.#forget(connection, this.#idle.get(connection));
        return { connection, reused: true };
      }
    }
    if (waiting !== undefined && this.#live.size + this.#opening >= this.#limits.most) {
      this.#forget(waiting, this.#idle.get(waiting));
      return { connection: waiting, reused: true };
    }
    this.#makeRoom();
    this.#opening += 1;
    try {
      const connection = await this.#open(signal);
      this.#live.add(connection);
      return { connection, reused: false };
    } finally {
      this.#opening -= 1;
    }
  }

  /** Gives a connection back that is in step, or will be with the answer that it waits for. */
  release(connection: T): void {
    if (this.#closed || !connection.usable || this.#idle.size >= this.#limits.most) {
      this.discard(connection);
      return;
    }
    const timer = setTimeout(() => {
      this.discard(connection);
    }, this.#limits.idleTimeout);
    timer.unref();
    this.#idle.set(connection, timer);
  }

  /** Ends a connection, whether it was given back or not. */
  discard(connection: T): void {
    this.#forget(connection, this.#idle.get(connection));
    this.#live.delete(connection);
    if (!connection.usable) {
      connection.close();
      return;
    }
    connection.quit();
    this.#leaving.add(connection);
  }

  /** A server may count one that leaves: where a new one would be one too many, it does not wait for its goodbye. */
  #makeRoom(): void {
    for (const connection of this.#leaving) {
      const isFull = this.#live.size + this.#opening + this.#leaving.size >= this.#limits.most;
      // Unless it waits for an answer: that tells what became of a message.
      if (isFull && !connection.pending) connection.close();
      if (connection.closed) this.#leaving.delete(connection);
    }
  }

  /** Ends what is idle. What is busy ends when it is released. */
  close(): void {
    this.#closed = true;
    for (const connection of this.#idle.keys()) this.discard(connection);
  }

  #forget(connection: T, timer: NodeJS.Timeout | undefined): void {
    clearTimeout(timer);
    this.#idle.delete(connection);
  }
}
