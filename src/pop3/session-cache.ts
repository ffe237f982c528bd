/**
 * TLS sessions for resumption, so that a poll every minute does not mean a full handshake every minute. Holds no more
 * than `limit`, least recently used first out. A key must name everything that the certificate was verified by: a
 * resumed session is not verified again.
 */

export interface KeptSession {
  readonly session: Buffer;
  /** What the server was verified by, as DER: a resumed session does not show it again. */
  readonly certificate: Buffer;
}

export class SessionCache {
  readonly #limit: number;
  readonly #sessions = new Map<string, KeptSession | 'never'>();

  constructor(limit = 500) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#sessions.size;
  }

  get(key: string): KeptSession | undefined {
    const kept = this.#sessions.get(key);
    if (kept === undefined || kept === 'never') return undefined;
    this.#put(key, kept);
    return kept;
  }

  set(key: string, kept: KeptSession): void {
    if (this.#sessions.get(key) !== 'never') this.#put(key, kept);
  }

  /** For a server that hung up on a resumed session: it would do so at every other connection. */
  never(key: string): void {
    this.#put(key, 'never');
  }

  #put(key: string, kept: KeptSession | 'never'): void {
    this.#sessions.delete(key);
    this.#sessions.set(key, kept);
    if (this.#sessions.size <= this.#limit) return;
    for (const oldest of this.#sessions.keys()) {
      this.#sessions.delete(oldest);
      break;
    }
  }
}
