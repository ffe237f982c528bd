/**
 * TLS sessions for resumption, so that a poll every minute does not mean a full handshake every minute. Holds no more
 * than `limit`, least recently used first out. A key must name everything that the certificate was verified by: a
 * resumed session is not verified again.
 */

export class SessionCache {
  readonly #limit: number;
  readonly #sessions = new Map<string, Buffer>();

  constructor(limit = 500) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#sessions.size;
  }

  get(key: string): Buffer | undefined {
    const session = this.#sessions.get(key);
    if (session !== undefined) this.set(key, session);
    return session;
  }

  set(key: string, session: Buffer): void {
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    if (this.#sessions.size <= this.#limit) return;
    for (const oldest of this.#sessions.keys()) {
      this.#sessions.delete(oldest);
      break;
    }
  }

  delete(key: string): void {
    this.#sessions.delete(key);
  }
}
