/** When accounts are polled. Accounts that share a schedule are spread over a while, each always by the same amount. Pure. */

import { createHash } from 'node:crypto';
import type { CronTime } from 'cron';
import { cronTime } from '../cron-time.ts';

/** Accounts that share a cron expression start within this time behind it: half of the least that lies between two of its times. */
const SPREAD = 30_000;
const SPREAD_OF_SECONDS = 500;
/**
 * Spread over a longer while, accounts come in groups, this far apart: so many polls that begin together share wake-ups and Redis's
 * fsyncs. It is about as long as a poll takes, so that no more sessions run at a time than would anyway. Milliseconds.
 */
const STEP = 250;
/** Milliseconds. */
const LONG = 30_000;

/**
 * The stable offset of an account.
 * @param within milliseconds; the result is below it
 */
export function offsetOf(account: string, within: number): number {
  const offset = createHash('sha256').update(account).digest().readUInt32BE(0) % Math.max(1, Math.floor(within));
  return within < LONG ? offset : offset - (offset % STEP);
}

/**
 * The next time of a cron expression, the account's offset included.
 * @param after milliseconds since 1970
 * @param timezone IANA name; undefined: the machine's own
 * @throws CronError if the expression or the timezone is none
 */
export function nextCronTime(expression: string, timezone: string | undefined, account: string, after: number): number {
  const time = cronTime(expression, timezone);
  const offset = offsetOf(account, namesSeconds(expression) ? SPREAD_OF_SECONDS : SPREAD);
  // The first time whose turn, behind the offset, is still to come.
  return next(time, after - offset) + offset;
}

/** True if it may be due more than once a minute. */
function namesSeconds(expression: string): boolean {
  const fields = expression.trim().split(/\s+/);
  return expression.trim() === '@secondly' || (fields.length > 5 && !/^\d+$/.test(fields[0] ?? ''));
}

/** The first time behind `after`. */
function next(time: CronTime, after: number): number {
  return time.getNextDateFrom(new Date(after)).toMillis();
}
