/** `log`: the audit trail: what happened to each message, from when it was seen to when it was deleted. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { openStore } from '../app.ts';
import { redisFailure } from '../store/redis-error.ts';
import { awaitTrail, readTrail } from '../store/trail.ts';
import type { TrailLine } from '../store/trail.ts';
import { describeTrailEvent } from '../sync/trail.ts';
import { printable } from '../untrusted.ts';
import { chosenAccounts, commandEvents, EXIT, usableConfig, UsageError } from './command.ts';
import type { Command, Context } from './command.ts';

/** How long one question for news waits. Milliseconds. */
const PATIENCE = 1000;
const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export const log: Command = {
  name: 'log',
  usage: '[ACCOUNT...]',
  summary: 'what happened to each message',
  options: {
    since: { type: 'string', help: 'how far back, as 30m, 2h or 7d, or a date and time; default: all that is kept' },
    message: { type: 'string', help: 'only this unique-id' },
    follow: { type: 'boolean', help: 'then go on with what happens from now on, until interrupted' },
  },
  async run(names, options, context) {
    const since = parseSince(options['since'] as string | undefined, Date.now());
    const wanted = options['message'];
    const config = await usableConfig(context);
    const accounts = [...chosenAccounts(config, names).keys()];
    const store = await openStore(config, commandEvents('error', context));
    try {
      const show = (line: TrailLine): void => {
        if (wanted === undefined || line.event.uniqueId === wanted) context.print(render(line, context));
      };
      const places = new Map<string, string>();
      for (const account of accounts) places.set(account, String(since));
      for await (const line of inOrder(accounts.map((account) => readTrail(store.redis, account, since)))) {
        if (context.stop.aborted) break;
        places.set(line.account, line.id);
        show(line);
      }
      if (options['follow'] === true) await follow(store.redis, places, show, context);
      return EXIT.done;
    } finally {
      await store.close();
    }
  },
};

/** Goes on until interrupted, also when Redis goes away and comes back. */
async function follow(
  redis: Redis,
  places: Map<string, string>,
  show: (line: TrailLine) => void,
  context: Context,
): Promise<void> {
  let isAway = false;
  while (!context.stop.aborted) {
    try {
      const lines = await awaitTrail(redis, places, PATIENCE);
      if (isAway) context.warn('Redis is back');
      isAway = false;
      for (const line of lines) {
        places.set(line.account, line.id);
        show(line);
      }
    } catch (error) {
      const failure = redisFailure(error);
      if (!failure) throw error;
      if (!isAway) context.warn(`${printable(failure.message)}; waiting for it`);
      isAway = true;
      await sleep(PATIENCE);
    }
  }
}

/** The lines of several trails as one, by time, with no more than a page of each in memory. */
async function* inOrder(trails: readonly AsyncGenerator<TrailLine>[]): AsyncGenerator<TrailLine> {
  const heads: { line: TrailLine; rest: AsyncGenerator<TrailLine> }[] = [];
  for (const rest of trails) {
    const { value, done } = await rest.next();
    if (done !== true) heads.push({ line: value, rest });
  }
  for (;;) {
    const [first, ...others] = heads;
    if (!first) return;
    let next = first;
    for (const head of others) if (head.line.event.at < next.line.event.at) next = head;
    yield next.line;
    const { value, done } = await next.rest.next();
    if (done === true) heads.splice(heads.indexOf(next), 1);
    else next.line = value;
  }
}

function render({ account, event }: TrailLine, context: Context): string {
  const time = new Date(event.at).toISOString();
  if (context.json) return JSON.stringify({ ...event, at: time, account });
  return `${time}  ${account}  ${printable(event.uniqueId, 70)}  ${printable(describeTrailEvent(event), 600)}`;
}

/** @returns milliseconds since 1970. @throws UsageError */
function parseSince(text: string | undefined, now: number): number {
  if (text === undefined) return 0;
  const [, amount, unit] = /^(\d{1,6})\s*([smhd])$/.exec(text.trim()) ?? [];
  if (amount !== undefined && unit !== undefined) return Math.max(0, now - Number(amount) * (UNITS[unit] ?? 0));
  const time = /^\d{4}-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time) || time < 0)
    throw new UsageError(`--since takes a time like 30m, 2h, 7d or 2026-11-23T08:00, not "${text}"`);
  return time;
}
