/** The worker: schedules, poll jobs, follow-ups, and an end that leaves nothing half done. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Engine } from './app.ts';
import type { AccountConfig } from './config/types.ts';
import { reasonOf } from './failure.ts';
import type { ProcessEvents } from './ops/events.ts';
import { PollQueue } from './queue/queue.ts';
import type { PollJobResult } from './queue/queue.ts';
import { QUEUE_PREFIX } from './store/keys.ts';
import { queueConnection } from './store/redis.ts';
import { poll } from './sync/poll.ts';
import type { PollReport } from './sync/poll.ts';

/** How soon a poll job that met another poll of the same account comes again. Milliseconds. */
const BUSY_AGAIN = 15_000;
/** How long the end may take: the grace of what is in flight, and a little more. Milliseconds. */
const CLOSE_LIMIT = 30_000;
/** The same where nothing is in flight and Redis is away: BullMQ would wait for it for ever. */
const CLOSE_LIMIT_WITHOUT_REDIS = 2000;
/** How often the schedules are looked after: a Redis that lost its data has none left. */
const SCHEDULES_CHECK = 10_000;

export class Worker {
  readonly #engine: Engine;
  readonly #events: ProcessEvents;
  readonly #connection: Redis;
  readonly #queue: PollQueue;
  readonly #background = new Set<Promise<void>>();
  #polls = 0;
  #guard: NodeJS.Timeout | undefined;
  #accounts: ReadonlyMap<string, AccountConfig>;

  constructor(engine: Engine, events: ProcessEvents) {
    this.#engine = engine;
    this.#events = events;
    this.#accounts = engine.config.accounts;
    // The ledger's connection reports that Redis is away; saying it twice helps nobody.
    this.#connection = queueConnection(engine.store.address, `mailferry:${process.pid}:queue`, () => undefined);
    this.#queue = new PollQueue({
      connection: this.#connection,
      prefix: QUEUE_PREFIX,
      concurrency: engine.config.concurrency,
      onError: (error) => this.#events.queueTrouble(error.message),
    });
  }

  async start(): Promise<void> {
    this.#events.schedules(await this.#queue.setSchedules(this.#accounts));
    this.#queue.start(async (name) => await this.#process(name));
    this.#guard = setInterval(() => void this.#guardSchedules(), SCHEDULES_CHECK);
  }

  /** Takes no new job, finishes those under way and the deliveries they left, and lets go of everything but the engine. */
  async close(): Promise<void> {
    clearInterval(this.#guard);
    this.#engine.stop();
    const closed = this.#finish();
    const began = performance.now();
    while (!(await Promise.race([closed, sleep(100, false, { ref: true })]))) {
      const isAlone = this.#connection.status !== 'ready' && this.#polls + this.#background.size === 0;
      if (performance.now() - began > (isAlone ? CLOSE_LIMIT_WITHOUT_REDIS : CLOSE_LIMIT)) break;
    }
    this.#connection.disconnect();
  }

  async #finish(): Promise<true> {
    try {
      await this.#queue.close();
      await Promise.all(this.#background);
    } catch (error) {
      this.#events.queueTrouble(reasonOf(error));
    }
    return true;
  }

  /** Sets schedules again that are gone: without them no account would ever be polled again. */
  async #guardSchedules(): Promise<void> {
    if (this.#connection.status !== 'ready') return;
    try {
      if (await this.#queue.hasSchedules(this.#accounts)) return;
      this.#events.schedules(await this.#queue.setSchedules(this.#accounts));
    } catch (error) {
      this.#events.queueTrouble(reasonOf(error));
    }
  }

  async #process(name: string): Promise<PollJobResult> {
    const account = this.#accounts.get(name);
    // A job of an account that has left the config, or that another worker's config holds.
    if (!account || this.#engine.tools.stop.aborted) return { followUp: 0 };
    this.#polls += 1;
    const report = await poll(account, this.#engine.tools).finally(() => (this.#polls -= 1));
    if ('background' in report && report.background) this.#watch(name, report.background);
    return { followUp: this.#followUp(report) };
  }

  #followUp(report: PollReport): number {
    const now = this.#engine.tools.now();
    switch (report.outcome) {
      case 'busy':
        return now + BUSY_AGAIN;
      case 'held':
        return report.until;
      case 'failed':
        return report.trouble.until;
      case 'done':
        return report.next;
      case 'planned':
        return 0;
    }
  }

  /** Deliveries that outlived their session: what they made ready is deleted by a poll that comes at once. */
  #watch(name: string, background: Promise<boolean>): void {
    const watched = background
      .then(async (ready) => {
        if (ready && !this.#engine.tools.stop.aborted) await this.#queue.pollSoon(name, 0);
      })
      .catch((error: unknown) => this.#events.failed(error))
      .finally(() => this.#background.delete(watched));
    this.#background.add(watched);
  }
}
