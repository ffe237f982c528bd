/** What is remembered of a server between two polls, so that it need not be asked each time what it can do. Pure. */

import type { AccountConfig } from '../config/types.ts';
import type { Remembered } from '../pop3/capabilities.ts';

/** What a server said of itself, where that was, and when it was asked. */
export interface Acquaintance extends Remembered {
  readonly place: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/** How long a server is believed what it said. Milliseconds. */
const ASK_AGAIN = 60 * 60 * 1000;

type Whereabouts = Pick<AccountConfig, 'host' | 'port' | 'security'>;

/** What the next session may go by; undefined if it must ask. */
export function remembered(
  known: Acquaintance | undefined,
  account: Whereabouts,
  now: number,
): Acquaintance | undefined {
  return known && known.place === placeOf(account) && now - known.at < ASK_AGAIN ? known : undefined;
}

/** What is to be remembered after a session. */
export function learned(
  found: Remembered,
  known: Acquaintance | undefined,
  account: Whereabouts,
  now: number,
): Acquaintance {
  return { ...found, place: placeOf(account), at: remembered(known, account, now)?.at ?? now };
}

function placeOf({ host, port, security }: Whereabouts): string {
  return `${host}:${port} ${security}`;
}
