/** Connections to Redis, and what must be true of a Redis before mail is trusted to it. */

import { Redis } from 'ioredis';
import type { RedisOptions } from 'ioredis';
import { printable } from '../untrusted.ts';
import { unreachable } from './redis-error.ts';

/** Where Redis is. */
export type RedisAddress =
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'socket'; readonly path: string };

/** How long one command may take before it counts as failed. Milliseconds. */
const COMMAND_TIMEOUT = 15_000;
/**
 * A connection on which nothing comes for so long, while something is waited for, is dead (a host that vanished sends no
 * end): it is made anew. Longer than the 10 seconds for which BullMQ lets Redis be silent. Milliseconds.
 */
const SILENCE_LIMIT = 12_000;

/**
 * A connection for the ledger: commands fail instead of waiting for ever when Redis is away, and reconnecting goes on.
 * @param onTrouble gets each connection error, which ioredis would otherwise throw
 */
export function ledgerConnection(address: RedisAddress, name: string, onTrouble: (error: Error) => void): Redis {
  return connection(
    address,
    { connectionName: name, maxRetriesPerRequest: 3, commandTimeout: COMMAND_TIMEOUT },
    onTrouble,
  );
}

/** A connection for BullMQ: its blocking commands wait for ever, and are sent again after a reconnect. */
export function queueConnection(address: RedisAddress, name: string, onTrouble: (error: Error) => void): Redis {
  return connection(address, { connectionName: name, maxRetriesPerRequest: null }, onTrouble);
}

function connection(address: RedisAddress, options: RedisOptions, onTrouble: (error: Error) => void): Redis {
  const all = {
    ...options,
    replyMapping: 'legacy' as const,
    lazyConnect: true,
    connectTimeout: 5000,
    socketTimeout: SILENCE_LIMIT,
    disableClientInfo: true,
    retryStrategy: (times: number): number => Math.min(3000, 50 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2),
  };
  const redis = address.kind === 'url' ? new Redis(address.url, all) : new Redis(address.path, all);
  redis.on('error', onTrouble);
  return redis;
}

/** What is wrong with this Redis; `fatal` if mail must not be trusted to it. */
export interface RedisFinding {
  readonly fatal: boolean;
  readonly message: string;
  readonly remedy: string;
}

/**
 * Checks version, eviction and persistence.
 * @throws Failure (scope process, code `redis.connect`) if Redis is out of reach
 */
export async function inspectRedis(redis: Redis): Promise<RedisFinding[]> {
  let info: Map<string, string>;
  try {
    info = parseInfo(await redis.info());
  } catch (error) {
    throw unreachable(error);
  }
  const findings: RedisFinding[] = [];
  const version = info.get('redis_version') ?? info.get('valkey_version') ?? '0';
  if (Number.parseInt(version, 10) < 6) {
    findings.push({
      fatal: true,
      message: `Redis ${printable(version, 20)} is too old`,
      remedy: 'Use Redis 6.2 or newer, or Valkey.',
    });
  }
  const policy = info.get('maxmemory_policy') ?? 'noeviction';
  if (policy !== 'noeviction') {
    findings.push({
      fatal: true,
      message: `Redis may evict keys (maxmemory-policy is ${printable(policy, 30)}): delivered mail would look new`,
      remedy: 'Set maxmemory-policy to noeviction.',
    });
  }
  if (info.get('aof_enabled') === '0') {
    findings.push({
      fatal: false,
      message: 'Redis does not write an append-only file: a crash of Redis forgets the latest deliveries',
      remedy: 'Set appendonly to yes.',
    });
  }
  return findings;
}

function parseInfo(text: string): Map<string, string> {
  const pairs = text
    .split('\r\n')
    .filter((line) => line.includes(':'))
    .map((line): [string, string] => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]);
  return new Map(pairs);
}
