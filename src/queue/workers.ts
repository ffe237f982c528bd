/**
 * The workers that run on one Redis, by what each says of itself every few seconds: how workers with different configs are
 * seen, and how `status` knows that a worker refused its config. Times are Redis's own, since clocks of hosts differ.
 */

import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { WORKERS } from '../store/keys.ts';
import { printable } from '../untrusted.ts';

/** Milliseconds between two signs. */
const PERIOD = 10_000;
/** A worker whose last sign is older does not run. */
const STALE = 45_000;
/** Its sign is taken away after this. */
const FORGOTTEN = 60 * 60 * 1000;
/** While a change rolls over all workers they differ for a moment: no reason to warn. */
const PATIENCE = 60_000;

/** What a worker knows of itself. */
export interface WorkerFacts {
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly accounts: number;
  /** Of the config it runs under. */
  readonly digest: string;
  /** What is wrong with the config as it is written now; empty: it runs under that. */
  readonly problem: string;
}

/** All times in milliseconds since 1970, by the clock of Redis. */
export interface WorkerSign extends WorkerFacts {
  readonly at: number;
  /** When the digest became this one. */
  readonly since: number;
  /** When the problem began; 0 if there is none. */
  readonly problemSince: number;
}

export interface WorkersOptions {
  readonly facts: () => WorkerFacts;
  /** Called once when workers have run with different configs for the time of patience. @param workers one line each */
  readonly onDiffer: (workers: readonly string[]) => void;
  readonly onAgree: () => void;
  readonly onError: (error: unknown) => void;
  /** Milliseconds. */
  readonly period?: number;
  readonly patience?: number;
}

/** Gives the signs of this worker, and watches those of the others. */
export class Workers {
  readonly #redis: Redis;
  readonly #options: WorkersOptions;
  readonly #id: string;
  #last: WorkerSign | undefined;
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> | undefined;
  #warned = false;

  constructor(redis: Redis, options: WorkersOptions) {
    this.#redis = redis;
    this.#options = options;
    this.#id = randomBytes(9).toString('base64url');
  }

  async start(): Promise<void> {
    await this.beat();
    this.#timer = setInterval(() => void this.beat(), this.#options.period ?? PERIOD);
  }

  /** Gives a sign now. */
  async beat(): Promise<void> {
    this.#beating ??= this.#beat().finally(() => (this.#beating = undefined));
    await this.#beating;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#beating;
    if (this.#redis.status === 'ready') await this.#redis.hdel(WORKERS, this.#id).catch(this.#options.onError);
  }

  async #beat(): Promise<void> {
    try {
      const at = await redisTime(this.#redis);
      this.#last = signOf(this.#options.facts(), at, this.#last);
      await this.#redis.hset(WORKERS, this.#id, JSON.stringify(this.#last));
      const signs = await readSigns(this.#redis);
      const forgotten = [...signs].filter(([, sign]) => sign.at < at - FORGOTTEN).map(([id]) => id);
      if (forgotten.length > 0) await this.#redis.hdel(WORKERS, ...forgotten);
      const running = [...signs.values()].filter((sign) => isRunning(sign, at));
      const workers = differingWorkers(running, at, this.#options.patience ?? PATIENCE);
      if (workers.length > 0 && !this.#warned) this.#options.onDiffer(workers);
      if (workers.length === 0 && this.#warned) this.#options.onAgree();
      this.#warned = workers.length > 0;
    } catch (error) {
      this.#options.onError(error);
    }
  }
}

/** The workers that run now. @throws if Redis is out of reach */
export async function runningWorkers(redis: Redis): Promise<{ workers: readonly WorkerSign[]; now: number }> {
  const now = await redisTime(redis);
  const signs = [...(await readSigns(redis)).values()];
  return { workers: signs.filter((sign) => isRunning(sign, now)), now };
}

/**
 * One line for each worker, if they run with different configs and have done so for `patience` milliseconds; otherwise none.
 * Versions compile the same file differently: they are not compared.
 */
export function differingWorkers(running: readonly WorkerSign[], now: number, patience = PATIENCE): readonly string[] {
  const settled = running.filter(({ since }) => since <= now - patience);
  const isDifferent = settled.some((one) =>
    settled.some((other) => one.version === other.version && one.digest !== other.digest),
  );
  if (!isDifferent) return [];
  return settled.map(
    ({ host, pid, accounts, digest }) =>
      `${printable(host, 100)} (process ${String(pid)}): ${String(accounts)} accounts, config ${printable(digest, 16)}`,
  );
}

function signOf(facts: WorkerFacts, at: number, last: WorkerSign | undefined): WorkerSign {
  const since = last?.digest === facts.digest ? last.since : at;
  const problemSince = facts.problem === '' ? 0 : last?.problemSince || at;
  return { ...facts, at, since, problemSince };
}

function isRunning({ at }: WorkerSign, now: number): boolean {
  return at > now - STALE;
}

async function redisTime(redis: Redis): Promise<number> {
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
}

async function readSigns(redis: Redis): Promise<Map<string, WorkerSign>> {
  const all = await redis.hgetall(WORKERS);
  return new Map(Object.entries(all).map(([id, value]) => [id, JSON.parse(value) as WorkerSign]));
}
