/** A progress bar on one line of a terminal; silent elsewhere. */

import type { PollSummary } from '../ops/events.ts';

const WIDTH = 30;
/** Redrawn at most this often. Milliseconds. */
const PERIOD = 100;

export class Progress {
  readonly #visible: boolean;
  readonly #accounts: number;
  readonly #current = new Map<string, PollSummary>();
  #before = { listed: 0, delivered: 0, deleted: 0, retrieved: 0 };
  #finished = 0;
  #drawn = 0;

  constructor(visible: boolean, accounts: number) {
    this.#visible = visible;
    this.#accounts = accounts;
  }

  update(account: string, summary: PollSummary): void {
    this.#current.set(account, summary);
    if (this.#visible && performance.now() - this.#drawn > PERIOD) this.#draw();
  }

  /** One poll has ended. */
  done(account: string, summary: PollSummary): void {
    this.#current.delete(account);
    const { listed, delivered, deleted, retrieved } = this.#before;
    this.#before = {
      listed: listed + (summary.more ? summary.retrieved : summary.listed),
      delivered: delivered + summary.delivered,
      deleted: deleted + summary.deleted,
      retrieved: retrieved + summary.retrieved,
    };
    if (!summary.more) this.#finished += 1;
    if (this.#visible) this.#draw();
  }

  end(): void {
    if (this.#visible && this.#drawn > 0) process.stderr.write('\r\u001b[K');
  }

  #draw(): void {
    this.#drawn = performance.now();
    let { listed, delivered, retrieved } = this.#before;
    for (const summary of this.#current.values()) {
      listed += summary.listed;
      delivered += summary.delivered;
      retrieved += summary.retrieved;
    }
    const part = listed === 0 ? 1 : Math.min(1, retrieved / listed);
    const bar = '#'.repeat(Math.round(part * WIDTH)).padEnd(WIDTH, '.');
    process.stderr.write(
      `\r[${bar}] ${retrieved}/${listed} messages, ${delivered} deliveries, ${this.#finished}/${this.#accounts} accounts\u001b[K`,
    );
  }
}
