/** Cron expressions as the npm package `cron` understands them: what it accepts here is what runs later. */

import type { CronTime } from 'cron';
import { cronTime } from '../cron-time.ts';
import { reasonOf } from '../failure.ts';
import { nearest } from './suggest.ts';
import { printable } from '../untrusted.ts';

/** Seconds between two polls of one account; servers answer `[LOGIN-DELAY]` to more. */
const LEAST_SECONDS = 10;

export interface Refusal {
  readonly message: string;
  readonly remedy: string;
}

const FORM = 'write five fields: minute hour day-of-month month day-of-week, such as "*/5 * * * *"';

/** Why `expression` cannot be a schedule; undefined if it can. */
export function refuseSchedule(expression: string): Refusal | undefined {
  let time: CronTime;
  try {
    time = cronTime(expression, 'UTC');
  } catch (thrown) {
    return { message: `is no cron expression (${printable(reasonOf(thrown), 80)})`, remedy: FORM };
  }
  try {
    time.sendAt();
  } catch {
    // its own message is a page of debugging help
    return { message: 'never comes true', remedy: 'give a day that exists in that month' };
  }
  if (leastGap(time) < LEAST_SECONDS) {
    return {
      message: `polls more often than every ${String(LEAST_SECONDS)} seconds`,
      remedy: 'leave out the first of the six fields, which counts seconds, or use `every: 10s`',
    };
  }
  return undefined;
}

/** Seconds between the closest two times within a minute. */
function leastGap(time: CronTime): number {
  const [field = '0'] = time.toJSON();
  // `*` also stands for 0 to 58, and either is too often
  if (field === '*') return 1;
  const seconds = field.split(',').map(Number);
  const first = seconds[0] ?? 0;
  return [...seconds.slice(1), first + 60].reduce(
    ({ least, last }, next) => ({ least: Math.min(least, next - last), last: next }),
    { least: 60, last: first },
  ).least;
}

/** Why `name` is no time zone; undefined if it is one. */
export function refuseTimezone(name: string): Refusal | undefined {
  try {
    cronTime('* * * * *', name).sendAt();
    return undefined;
  } catch {
    // all it says is that the zone is invalid
    const near = nearest(name, Intl.supportedValuesOf('timeZone'));
    const remedy = near === undefined ? 'write a name such as Europe/Paris or UTC' : `did you mean ${near}?`;
    return { message: 'is no time zone', remedy };
  }
}
