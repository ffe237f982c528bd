/**
 * The edge to BullMQ: one job scheduler for each account, and the worker that takes the poll jobs. A job's data is the
 * account's name and nothing else: no secrets and no mail in the queue. What a poll must not do twice, the lease guards.
 */

import { Queue, Worker } from 'bullmq';
import type { ConnectionOptions, JobSchedulerJson, RepeatOptions } from 'bullmq';
import type { AccountConfig } from '../config/types.ts';
import { nextCronTime, offsetOf } from '../sync/schedule.ts';

const NAME = 'polls';
/** Schedulers written at a time. */
const UPSERTS = 100;

export interface PollJob {
  readonly account: string;
}

/** What the worker returns for a job: when the account wants its next poll beside the schedule; 0 for never. */
export interface PollJobResult {
  readonly followUp: number;
}

export interface QueueOptions {
  /** A connection whose commands are never given up (`maxRetriesPerRequest: null`). */
  readonly connection: ConnectionOptions;
  readonly prefix: string;
  /** Polls at a time. */
  readonly concurrency: number;
  readonly onError: (error: Error) => void;
}

export class PollQueue {
  readonly #options: QueueOptions;
  readonly #queue: Queue<PollJob, PollJobResult>;
  #worker: Worker<PollJob, PollJobResult> | undefined;
  readonly #followUps = new Set<Promise<void>>();

  constructor(options: QueueOptions) {
    this.#options = options;
    this.#queue = new Queue<PollJob, PollJobResult>(NAME, {
      connection: options.connection,
      prefix: options.prefix,
      settings: { repeatStrategy },
      defaultJobOptions: { removeOnComplete: true, removeOnFail: 100 },
    });
    this.#queue.on('error', options.onError);
  }

  /** Makes the schedulers those of these accounts: adds, changes and removes. New accounts are polled at once. */
  async setSchedules(
    accounts: ReadonlyMap<string, AccountConfig>,
  ): Promise<{ added: number; changed: number; removed: number }> {
    const existing = new Map(
      (await this.#queue.getJobSchedulers(0, -1)).map((scheduler) => [scheduler.key, scheduler]),
    );
    const gone = [...existing.keys()].filter((key) => !accounts.has(accountOf(key)));
    const added = [...accounts.values()].filter((account) => !existing.has(schedulerId(account.name)));
    const changed = [...accounts.values()].filter((account) => {
      const scheduler = existing.get(schedulerId(account.name));
      return scheduler !== undefined && !isSame(scheduler, repeatOptions(account));
    });
    const todo = [
      ...gone.map((key) => async () => void (await this.#queue.removeJobScheduler(key))),
      ...[...added, ...changed].map((account) => async () => {
        await this.#queue.upsertJobScheduler(schedulerId(account.name), repeatOptions(account), {
          name: account.name,
          data: { account: account.name },
        });
      }),
      ...added.map((account) => async () => await this.pollSoon(account.name, 0)),
    ];
    for (let start = 0; start < todo.length; start += UPSERTS) {
      await Promise.all(todo.slice(start, start + UPSERTS).map(async (run) => await run()));
    }
    return { added: added.length, changed: changed.length, removed: gone.length };
  }

  /** False if some of these accounts have no scheduler any more. One cheap question. */
  async hasSchedules(accounts: ReadonlyMap<string, AccountConfig>): Promise<boolean> {
    return (await this.#queue.getJobSchedulersCount()) >= accounts.size;
  }

  /** One more poll of this account; a follow-up that waits already moves to this time. @param at milliseconds since 1970 */
  async pollSoon(account: string, at: number): Promise<void> {
    const delay = Math.max(0, at - Date.now());
    await this.#queue.add(account, { account }, { delay, deduplication: { id: account, reschedule: true } });
  }

  /** When each account is polled next by its schedule; milliseconds since 1970. */
  async nextPolls(): Promise<Map<string, number>> {
    const schedulers = await this.#queue.getJobSchedulers(0, -1);
    return new Map(schedulers.map((scheduler) => [accountOf(scheduler.key), scheduler.next ?? 0]));
  }

  /** Takes jobs until `close`. @param process must not throw: a poll's failure is its report */
  start(process: (account: string) => Promise<PollJobResult>): void {
    const worker = new Worker<PollJob, PollJobResult>(NAME, async (job) => await process(job.data.account), {
      connection: this.#options.connection,
      prefix: this.#options.prefix,
      concurrency: this.#options.concurrency,
      settings: { repeatStrategy },
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 100 },
      // A job that fails takes its schedule with it. However often workers are killed, the next one polls.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
    });
    worker.on('error', this.#options.onError);
    worker.on('failed', (_job, error) => this.#options.onError(error));
    // Only once a job has ended may another of the same account be added.
    worker.on('completed', (job, { followUp }) => {
      if (followUp > 0) this.#follow(job.data.account, followUp);
    });
    this.#worker = worker;
  }

  /** Polls at a time from here on. */
  resize(concurrency: number): void {
    if (this.#worker) this.#worker.concurrency = concurrency;
  }

  /** True if some worker polls this account by a schedule. */
  async isScheduled(account: string): Promise<boolean> {
    return (await this.#queue.getJobScheduler(schedulerId(account))) !== undefined;
  }

  /** Takes no more jobs, and waits for those under way. */
  async close(): Promise<void> {
    await this.#worker?.close();
    await Promise.all(this.#followUps);
    await this.#queue.close();
  }

  #follow(account: string, at: number): void {
    const adding = this.pollSoon(account, at)
      .catch(this.#options.onError)
      .finally(() => this.#followUps.delete(adding));
    this.#followUps.add(adding);
  }
}

function schedulerId(account: string): string {
  return `account:${account}`;
}

function accountOf(key: string): string {
  return key.slice('account:'.length);
}

function repeatOptions({ name, schedule }: AccountConfig): RepeatOptions {
  if (schedule.kind === 'every') {
    const { milliseconds: every } = schedule;
    // BullMQ takes 0 for none given, and then makes one of its own out of when it was asked.
    return { every, offset: Math.max(1, offsetOf(name, every)) };
  }
  return schedule.timezone === undefined
    ? { pattern: schedule.expression }
    : { pattern: schedule.expression, tz: schedule.timezone };
}

function isSame(scheduler: JobSchedulerJson, { every, offset, pattern, tz }: RepeatOptions): boolean {
  return (
    scheduler.every === every &&
    (every === undefined || (scheduler.offset ?? 0) === offset) &&
    scheduler.pattern === pattern &&
    scheduler.tz === tz
  );
}

/** BullMQ asks this for the next time of a cron expression; the job's name is the account's. */
function repeatStrategy(after: number, { pattern, tz }: RepeatOptions, account = ''): number | undefined {
  return pattern === undefined ? undefined : nextCronTime(pattern, tz, account, after);
}
