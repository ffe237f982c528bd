/** What of a config all workers on one Redis must share, as a short digest. Pure. No secret goes into it. */

import { createHash } from 'node:crypto';
import type { Config } from './types.ts';

/** The same for configs with the same accounts and destinations, in whatever order they are written. */
export function configDigest({ accounts, destinations }: Pick<Config, 'accounts' | 'destinations'>): string {
  const hash = createHash('sha256');
  for (const entries of [accounts, destinations] as readonly ReadonlyMap<string, unknown>[]) {
    for (const name of [...entries.keys()].toSorted(compare))
      hash.update(JSON.stringify([name, entries.get(name)], plain));
    hash.update('\n');
  }
  return hash.digest('hex').slice(0, 16);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** Secrets print as `[secret]` by themselves; these may hold credentials in plain text. */
function plain(key: string, value: unknown): unknown {
  if (key === 'headers' && typeof value === 'object' && value !== null && !Array.isArray(value))
    return Object.keys(value);
  if (key !== 'proxy' && key !== 'url') return value;
  const url = typeof value === 'string' ? URL.parse(value) : null;
  return url === null ? value : `${url.protocol}//${url.host}${key === 'url' ? url.pathname : ''}`;
}
