/** Cron expressions of the npm package `cron`, which is loaded where the first one is met: most configs have none. Pure. */

import { createRequire } from 'node:module';
import type * as Cron from 'cron';

// With its library of dates it takes 3 MB, and a thirtieth of a start.
const require = createRequire(import.meta.url);

/**
 * @param timezone IANA name; undefined: the machine's own
 * @throws CronError if the expression or the timezone is none
 */
export function cronTime(expression: string, timezone?: string): Cron.CronTime {
  const cron = require('cron') as typeof Cron;
  return timezone === undefined ? new cron.CronTime(expression) : new cron.CronTime(expression, timezone);
}
