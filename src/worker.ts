/** The worker: schedules, poll jobs, follow-ups, and an end that leaves nothing half done. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Engine } from './app.ts';
import type { Difference } from './config/difference.ts';
import type { Config } from './config/types.ts';
import { reasonOf } from './failure.ts';
import type { ProcessEvents } from './ops/events.ts';
import { PollQueue } from './queue/queue.ts';
import type { PollJobResult } from './queue/queue.ts';
import type { Slot } from './queue/slots.ts';
import { QUEUE_PREFIX } from './store/keys.ts';
import { readStates } from './store/ledger.ts';
import { queueConnection } from './store/redis.ts';
import { poll } from './sync/poll.ts';
import type { PollReport } from './sync/poll.ts';

/** How soon a poll job that met another poll of the same account comes again. Milliseconds. */
const BUSY_AGAIN = 15_000;
/** The same for one that a limit over all workers holds up: between the half and one and a half of it. */
const NO_SLOT_AGAIN = 3000;
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
  /** True while Redis has not got the schedules of the config yet. */
  #schedulesDue = false;
  #setting: Promise<void> | undefined;
  /** Accounts whose config changed, to be looked at once their schedules are set. */
  readonly #changed = new Set<string>();
  /** Those of them that were in trouble: the change may be the remedy. */
  readonly #retried = new Set<string>();

  constructor(engine: Engine, events: ProcessEvents) {
    this.#engine = engine;
    this.#events = events;
    // The ledger's connection reports that Redis is away; saying it twice helps nobody.
    this.#connection = queueConnection(engine.store.address, `mailferry:${process.pid}:queue`, () => undefined);
    this.#queue = new PollQueue({
      connection: this.#connection,
      prefix: QUEUE_PREFIX,
      concurrency: engine.config.concurrency,
      onError: (error) => this.#events.queueTrouble(error.message),
    });
  }

  /** The config that new polls run under. */
  get config(): Config {
    return this.#engine.config;
  }

  async start(): Promise<void> {
    this.#events.schedules(await this.#queue.setSchedules(this.#engine.config.accounts));
    this.#queue.start(async (name) => await this.#process(name));
    this.#guard = setInterval(() => void this.#guardSchedules(), SCHEDULES_CHECK);
  }

  /**
   * From here on polls begin under this config; the schedules follow as soon as Redis takes them.
   * @throws what opening a destination throws; then all is as before
   */
  apply(config: Config, { accounts, destinations }: Difference): void {
    this.#engine.apply(config, new Set(destinations.changed));
    this.#queue.resize(config.concurrency);
    if (accounts.added.length + accounts.changed.length + accounts.removed.length === 0) return;
    for (const name of accounts.changed) this.#changed.add(name);
    this.#schedulesDue = true;
    void this.#setSchedules();
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
      if (!(await this.#queue.hasSchedules(this.#engine.config.accounts))) this.#schedulesDue = true;
    } catch (error) {
      this.#events.queueTrouble(reasonOf(error));
    }
    await this.#setSchedules();
  }

  /** Makes the schedules those of the config, if they are due. What fails is tried again by the guard. */
  async #setSchedules(): Promise<void> {
    this.#setting ??= this.#setDueSchedules().finally(() => (this.#setting = undefined));
    await this.#setting;
  }

  async #setDueSchedules(): Promise<void> {
    try {
      while (this.#schedulesDue) {
        this.#schedulesDue = false;
        this.#events.schedules(await this.#queue.setSchedules(this.#engine.config.accounts));
        await this.#retryChanged();
      }
    } catch (error) {
      this.#schedulesDue = true;
      this.#events.queueTrouble(reasonOf(error));
    }
  }

  /** An account in trouble is tried at once when its config changes, however long it is held off. */
  async #retryChanged(): Promise<void> {
    const names = [...this.#changed].filter((name) => this.#engine.config.accounts.has(name));
    const states = await readStates(this.#engine.store.redis, names);
    this.#changed.clear();
    for (const name of names.filter((_, index) => states[index]?.trouble !== undefined)) {
      this.#retried.add(name);
      await this.#queue.pollSoon(name, 0);
    }
  }

  async #process(name: string): Promise<PollJobResult> {
    const now = this.#engine.tools.now();
    // Taken in the moment of the end: it goes back into the queue.
    if (this.#engine.tools.stop.aborted) return { followUp: now };
    const use = this.#engine.enter();
    let slot: Slot | undefined;
    let background: Promise<boolean> | undefined;
    try {
      const account = use.config.accounts.get(name);
      if (!account) return { followUp: (await this.#isOthers(name)) ? now + BUSY_AGAIN : 0 };
      slot = await use.slot(account);
      if (!slot) return { followUp: now + NO_SLOT_AGAIN * (0.5 + this.#engine.tools.random()) };
      this.#polls += 1;
      const force = this.#retried.delete(name);
      const report = await poll(account, use.tools, { force }).finally(() => (this.#polls -= 1));
      background = 'background' in report ? report.background : undefined;
      return { followUp: this.#followUp(report) };
    } finally {
      slot?.leave();
      if (background) this.#watch(name, background.finally(use.leave));
      else use.leave();
    }
  }

  /** True if an account that is not in this config has a schedule: another worker has another config, for a while or for good. */
  async #isOthers(name: string): Promise<boolean> {
    try {
      return await this.#queue.isScheduled(name);
    } catch (error) {
      this.#events.queueTrouble(reasonOf(error));
      return false;
    }
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
