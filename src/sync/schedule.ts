/** When accounts are polled. Accounts that share a schedule are spread over a while, each always by the same amount. Pure. */

import { createHash } from 'node:crypto';
import { CronTime } from 'cron';

/** Accounts that share a cron expression start within this time behind it. Milliseconds. */
const SPREAD = 60_000;

/**
 * The stable offset of an account.
 * @param within milliseconds; the result is below it
 */
export function offsetOf(account: string, within: number): number {
  return createHash('sha256').update(account).digest().readUInt32BE(0) % Math.max(1, Math.floor(within));
}

/**
 * The next time of a cron expression, the account's offset included.
 * @param after milliseconds since 1970
 * @param timezone IANA name; undefined: the machine's own
 * @throws CronError if the expression or the timezone is none
 */
export function nextCronTime(expression: string, timezone: string | undefined, account: string, after: number): number {
  const time = timezone === undefined ? new CronTime(expression) : new CronTime(expression, timezone);
  const first = next(time, after);
  // Never so far that a run is still due when the next comes.
  const offset = offsetOf(account, Math.min(SPREAD, (next(time, first) - first) / 2));
  const previous = next(time, after - offset);
  return previous + offset > after ? previous + offset : next(time, previous) + offset;
}

function next(time: CronTime, after: number): number {
  return time.getNextDateFrom(new Date(after)).toMillis();
}
