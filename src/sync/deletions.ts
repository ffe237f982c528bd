/**
 * The only place that sends DELE. The rule: the ledger holds *delete pending* before DELE leaves, and *deleted* only after
 * QUIT has said +OK. Anything else (an -ERR, a lost reply, a lost connection) stays pending and is sent again by a later session.
 */

import { Failure, reasonOf } from '../failure.ts';
import type { AccountEvents } from '../ops/events.ts';
import type { Pop3Client } from '../pop3/client.ts';
import { entryKey, mayDelete, step } from './entry.ts';
import type { Entry, Identity } from './entry.ts';
import type { Hold } from './hold.ts';

export class Deletions {
  readonly #session: Pop3Client;
  readonly #hold: Hold;
  readonly #events: AccountEvents;
  /** By `entryKey`: those whose DELE was answered. */
  readonly #sent = new Map<string, Identity>();
  #running: Promise<void> = Promise.resolve();
  #queue: { messageNumber: number; identity: Identity }[] = [];

  constructor(session: Pop3Client, hold: Hold, events: AccountEvents) {
    this.#session = session;
    this.#hold = hold;
    this.#events = events;
  }

  /** Deletes a message of this session, together with others that are asked for at the same time. */
  add(messageNumber: number, entry: Entry): void {
    this.#queue.push({ messageNumber, identity: entry });
    if (this.#queue.length > 1) return;
    this.#running = this.#running.then(async () => await this.#flush());
    // `drained` reports it; until somebody asks, a failure is no unhandled one.
    this.#running.catch(() => undefined);
  }

  /** Resolves when all that was asked for has been sent and answered. @throws LedgerFailure, or what broke the session */
  async drained(): Promise<void> {
    let running: Promise<void>;
    do {
      running = this.#running;
      await running;
    } while (running !== this.#running);
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

  async #flush(): Promise<void> {
    const batch = this.#queue;
    this.#queue = [];
    const { ledger, lease } = this.#hold;
    const due: { messageNumber: number; entry: Entry }[] = [];
    const writes: Promise<void>[] = [];
    for (const { messageNumber, identity } of batch) {
      const entry = ledger.get(identity);
      if (!entry || !mayDelete(entry)) continue;
      const pending = step(entry, 'deleting');
      due.push({ messageNumber, entry: pending });
      writes.push(ledger.put(entry, pending));
    }
    await Promise.all(writes);
    // This process may have been stopped for long since: then another worker may be at work on this maildrop.
    if (!lease.isValid && !(await lease.confirm())) return;
    await Promise.all(due.map(async ({ messageNumber, entry }) => await this.#delete(messageNumber, entry)));
  }

  async #delete(messageNumber: number, entry: Entry): Promise<void> {
    try {
      await this.#session.delete(messageNumber);
      this.#sent.set(entryKey(entry), entry);
    } catch (error) {
      if (this.#session.closed) throw error;
      this.#events.deleteRefused(
        { uniqueId: entry.uniqueId },
        error instanceof Failure ? (error.said ?? error.message) : reasonOf(error),
      );
    }
  }
}
