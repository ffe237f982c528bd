/**
 * The mark that an account was polled before, kept beside the ledger (a file in `dataDir`) and apart from it in Redis: what
 * tells a ledger that was lost from an account that is new.
 */

import { createHash } from 'node:crypto';
import { access, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { Failure, reasonOf } from '../failure.ts';
import { POLLED_ACCOUNTS } from './keys.ts';

export class Markers {
  readonly #redis: Redis;
  readonly #folder: string;

  constructor(redis: Redis, dataDir: string) {
    this.#redis = redis;
    this.#folder = join(dataDir, 'polled');
  }

  /** True if this account was polled before, here or by a worker on the same Redis. */
  async has(account: string): Promise<boolean> {
    const inRedis = await this.#redis.hexists(POLLED_ACCOUNTS, account);
    if (inRedis === 1) return true;
    try {
      await access(this.#path(account));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw this.#failure(error);
    }
  }

  /** Marks it; to be durable before its first message is deleted. */
  async set(account: string, now: number): Promise<void> {
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await writeFile(this.#path(account), `${account}\n`, { mode: 0o600 });
    } catch (error) {
      throw this.#failure(error);
    }
    await this.#redis.hsetnx(POLLED_ACCOUNTS, account, String(now));
  }

  /** Unmarks an account whose ledger a person gave up. */
  async clear(account: string): Promise<void> {
    await rm(this.#path(account), { force: true });
    await this.#redis.hdel(POLLED_ACCOUNTS, account);
  }

  #path(account: string): string {
    // Account names may be longer than file names, or differ in case alone.
    return join(this.#folder, createHash('sha256').update(account).digest('hex').slice(0, 32));
  }

  #failure(error: unknown): Failure {
    return new Failure(`Cannot write to ${this.#folder}: ${reasonOf(error)}`, {
      scope: 'process',
      code: 'markers.write',
      remedy: 'Make room on the disk, or check that the user mailferry runs as may write there.',
      cause: error,
    });
  }
}

/** Every account that was ever polled by a worker on this Redis, in order. @throws if Redis is out of reach */
export async function polledAccounts(redis: Redis): Promise<string[]> {
  return (await redis.hkeys(POLLED_ACCOUNTS)).toSorted((a, b) => a.localeCompare(b));
}
