/**
 * The only place that sends DELE. The rule: the ledger holds *delete pending* before DELE leaves, and *deleted* only after
 * QUIT has said +OK. Anything else (an -ERR, a lost reply, a lost connection) stays pending and is sent again by a later session.
 */

import { Failure, reasonOf } from '../failure.ts';
import type { AccountEvents } from '../ops/events.ts';
import type { Pop3Client } from '../pop3/client.ts';
import { mayDelete, step } from './entry.ts';
import type { Identity } from './entry.ts';
import type { Hold } from './hold.ts';

export class Deletions {
  readonly #session: Pop3Client;
  readonly #hold: Hold;
  readonly #events: AccountEvents;
  /** By message number: those whose DELE was answered. */
  readonly #sent = new Map<number, Identity>();
  /** Those that were asked for, and neither answered nor failed yet. */
  #running = 0;
  #whenDrained: (() => void) | undefined;
  #failure: { readonly reason: unknown } | undefined;

  constructor(session: Pop3Client, hold: Hold, events: AccountEvents) {
    this.#session = session;
    this.#hold = hold;
    this.#events = events;
  }

  /**
   * Deletes a message of this session. Written at once, so that it goes to Redis in one write with what allowed it; those that are
   * asked for at the same time go to the server together.
   */
  add(messageNumber: number, entry: Identity): void {
    this.#running += 1;
    void this.#run(messageNumber, entry);
  }

  /** Resolves when all that was asked for has been sent and answered. @throws LedgerFailure, or what broke the session */
  async drained(): Promise<void> {
    while (this.#running > 0) await new Promise<void>((resolve) => (this.#whenDrained = resolve));
    if (this.#failure) throw this.#failure.reason;
  }

  /**
   * Ends the session with QUIT, which is what deletes, and writes that down.
   * @returns how many deletes were committed
   */
  async commit(now: number): Promise<number> {
    const { ledger, lease } = this.#hold;
    if (!lease.isValid && !(await lease.confirm())) {
      // Another worker may be at work: it will delete what is pending.
      this.#session.abort();
      return 0;
    }
    try {
      await this.#session.quit();
    } catch (error) {
      if (this.#sent.size === 0) return 0;
      this.#events.commitUnknown(
        this.#sent.size,
        error instanceof Failure ? (error.said ?? error.message) : reasonOf(error),
      );
      return 0;
    }
    const writes: Promise<void>[] = [];
    for (const identity of this.#sent.values()) {
      const entry = ledger.get(identity);
      if (!entry) continue;
      ledger.record({ event: 'deleted', uniqueId: entry.uniqueId, at: now });
      writes.push(ledger.put(entry, step(entry, 'deleted')));
    }
    await Promise.all(writes);
    if (writes.length > 0) this.#events.deleted(writes.length);
    return writes.length;
  }

  /** Throws nothing: `drained` reports what went wrong. */
  async #run(messageNumber: number, identity: Identity): Promise<void> {
    try {
      await this.#delete(messageNumber, identity);
    } catch (reason) {
      this.#failure ??= { reason };
    } finally {
      this.#running -= 1;
      if (this.#running === 0) this.#whenDrained?.();
    }
  }

  async #delete(messageNumber: number, identity: Identity): Promise<void> {
    const { ledger, lease } = this.#hold;
    const entry = ledger.get(identity);
    if (!entry || !mayDelete(entry)) return;
    await ledger.put(entry, step(entry, 'deleting'));
    // This process may have been stopped for long since: then another worker may be at work on this maildrop.
    if (!lease.isValid && !(await lease.confirm())) return;
    try {
      await this.#session.delete(messageNumber);
      this.#sent.set(messageNumber, entry);
    } catch (error) {
      if (this.#session.closed) throw error;
      this.#events.deleteRefused(
        { uniqueId: entry.uniqueId },
        error instanceof Failure ? (error.said ?? error.message) : reasonOf(error),
      );
    }
  }
}
