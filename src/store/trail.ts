/** Reading the audit trail, without a lease: what the ledger's writes have put there, oldest first. */

import type { Redis } from 'ioredis';
import { decodeTrailEvent } from '../sync/trail.ts';
import type { TrailEvent } from '../sync/trail.ts';
import { accountKeys } from './keys.ts';

/** Events asked for in one command. All trails may be read at one time. */
const CHUNK = 200;

/** An event with its place, from which reading goes on. */
export interface TrailLine {
  readonly account: string;
  /** Of the stream's entry. */
  readonly id: string;
  readonly event: TrailEvent;
}

type StreamEntry = [id: string, fields: string[]];

/**
 * Every event of an account that was written at `since` or later.
 * @param since milliseconds since 1970
 * @throws if Redis is out of reach
 */
export async function* readTrail(redis: Redis, account: string, since = 0): AsyncGenerator<TrailLine> {
  const { trail } = accountKeys(account);
  let from = String(since);
  for (;;) {
    const entries = (await redis.xrange(trail, from, '+', 'COUNT', CHUNK)) as StreamEntry[];
    for (const entry of entries) yield* lineOf(account, entry);
    const last = entries.at(-1);
    if (!last || entries.length < CHUNK) return;
    from = `(${last[0]}`;
  }
}

/**
 * Waits for further events of these accounts.
 * @param places the id behind which to read, by account; `$` for what comes from now on
 * @param patience milliseconds
 * @returns none if nothing came in time
 */
export async function awaitTrail(
  redis: Redis,
  places: ReadonlyMap<string, string>,
  patience: number,
): Promise<TrailLine[]> {
  const accounts = [...places.keys()];
  const keys = accounts.map((account) => accountKeys(account).trail);
  const found = await redis.xread(
    'COUNT',
    CHUNK,
    'BLOCK',
    patience,
    'STREAMS',
    ...keys,
    ...accounts.map((account) => places.get(account) ?? '$'),
  );
  return (found ?? []).flatMap(([key, entries]) => {
    const account = accounts[keys.indexOf(key)] ?? '';
    return entries.flatMap((entry) => lineOf(account, entry));
  });
}

function lineOf(account: string, [id, fields]: StreamEntry): TrailLine[] {
  const event = decodeTrailEvent(fields[fields.indexOf('e') + 1] ?? '');
  return event === undefined ? [] : [{ account, id, event }];
}
