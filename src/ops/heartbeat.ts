/** A sign of life for `mailferry health`: a file under `dataDir`, written while the event loop turns, telling whether Redis answers. */

import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { reasonOf } from '../failure.ts';
import type { ProcessEvents } from './events.ts';

/** Milliseconds. */
const PERIOD = 10_000;
/** A sign older than this is none. */
const STALE = 45_000;

export class Heartbeat {
  readonly #path: string;
  readonly #redis: Redis;
  readonly #events: ProcessEvents;
  #timer: NodeJS.Timeout | undefined;

  constructor(dataDir: string, redis: Redis, events: ProcessEvents) {
    this.#path = heartbeatPath(dataDir);
    this.#redis = redis;
    this.#events = events;
  }

  async start(): Promise<void> {
    await this.#beat();
    this.#timer = setInterval(() => void this.#beat(), PERIOD);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await rm(this.#path, { force: true });
  }

  async #beat(): Promise<void> {
    try {
      const redis = await this.#redis.ping().then(
        () => 'ok',
        (error: unknown) => reasonOf(error),
      );
      await writeFile(`${this.#path}.new`, JSON.stringify({ pid: process.pid, at: Date.now(), redis }), {
        mode: 0o600,
      });
      await rename(`${this.#path}.new`, this.#path);
    } catch (error) {
      this.#events.failed(error);
    }
  }
}

/** @returns undefined if the worker is well, else what is wrong */
export async function readHealth(dataDir: string, now: number): Promise<string | undefined> {
  let beat: { at: number; redis: string };
  try {
    beat = JSON.parse(await readFile(heartbeatPath(dataDir), 'utf8')) as typeof beat;
  } catch (error) {
    return `no worker runs on ${dataDir} (${reasonOf(error)})`;
  }
  if (now - beat.at > STALE) return `the worker last gave a sign of life ${Math.round((now - beat.at) / 1000)} s ago`;
  return beat.redis === 'ok' ? undefined : `redis is out of reach: ${beat.redis}`;
}

function heartbeatPath(dataDir: string): string {
  return join(dataDir, 'heartbeat.json');
}
