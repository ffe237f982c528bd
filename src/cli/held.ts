/** The hold on an account for a command of a person: waits, within a bound, until a poll of the same account has ended. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Store } from '../app.ts';
import type { Config } from '../config/types.ts';
import { Failure } from '../failure.ts';
import { Holds } from '../sync/hold.ts';
import type { Hold } from '../sync/hold.ts';
import { printable } from '../untrusted.ts';
import type { Context } from './command.ts';

/** Milliseconds. */
const PATIENCE = 60_000;
const PAUSE = 200;

/**
 * Does something while nobody polls this account.
 * @throws Failure (code `lease.busy`) if a poll does not end in time, or the person does not wait for it
 */
export async function whileHeld<T>(
  store: Store,
  { history }: Pick<Config, 'history'>,
  account: string,
  context: Context,
  work: (hold: Hold) => Promise<T>,
): Promise<T> {
  const holds = new Holds(store.redis);
  // Each write cuts the audit trail to these limits, this one too.
  holds.trail = history;
  const deadline = performance.now() + PATIENCE;
  let hold = await holds.acquire(account);
  if (!hold) context.warn(`${printable(account)} is being polled: waiting until that has ended`);
  while (!hold && performance.now() < deadline && !context.stop.aborted) {
    await sleep(PAUSE);
    hold = await holds.acquire(account);
  }
  if (!hold)
    throw new Failure(`${account} is being polled`, {
      scope: 'account',
      code: 'lease.busy',
      remedy: 'Try again when the poll has ended.',
    });
  try {
    return await work(hold);
  } finally {
    await holds.release(hold);
  }
}
