/** What changed from one config to the next, for a reload. Pure: secrets compare by where they come from, and none is read. */

import { ConfiguredSecret } from './secret.ts';
import type { Config } from './types.ts';

/** Names, in the order of the config that has them. */
export interface Changes {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

export interface Difference {
  readonly accounts: Changes;
  readonly destinations: Changes;
  /** Changed settings that take effect only in a new process: `redis`, `dataDir`, `http`. */
  readonly needsRestart: readonly string[];
  /** Changed settings that may take effect at once: `alerts`, `log`, `history`, `concurrency`, `memoryBudget`, `spoolBudget`, `limits`. */
  readonly settings: readonly string[];
}

const RESTART = ['dataDir', 'redis', 'http'] as const;
const LIVE = ['alerts', 'log', 'history', 'concurrency', 'memoryBudget', 'spoolBudget', 'limits'] as const;

export function difference(before: Config, after: Config): Difference {
  return {
    accounts: changes(before.accounts, after.accounts),
    destinations: changes(before.destinations, after.destinations),
    needsRestart: RESTART.filter((setting) => !same(before[setting], after[setting])),
    settings: LIVE.filter((setting) => !same(before[setting], after[setting])),
  };
}

/** `after` as a process that runs under `before` can take it: settings that need a restart stay as they are. */
export function withoutRestart(before: Config, after: Config): Config {
  return { ...after, ...Object.fromEntries(RESTART.map((setting) => [setting, before[setting]])) };
}

export function isEmpty({ accounts, destinations, needsRestart, settings }: Difference): boolean {
  const lists = [accounts, destinations].flatMap(({ added, changed, removed }) => [added, changed, removed]);
  return [...lists, needsRestart, settings].every((list) => list.length === 0);
}

function changes(before: ReadonlyMap<string, unknown>, after: ReadonlyMap<string, unknown>): Changes {
  const names = [...after.keys()];
  return {
    added: names.filter((name) => !before.has(name)),
    changed: names.filter((name) => before.has(name) && !same(before.get(name), after.get(name))),
    removed: [...before.keys()].filter((name) => !after.has(name)),
  };
}

function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (a instanceof ConfiguredSecret || b instanceof ConfiguredSecret) {
    return a instanceof ConfiguredSecret && b instanceof ConfiguredSecret && ConfiguredSecret.same(a, b);
  }
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Array.isArray(a) === Array.isArray(b) && [...keys].every((key) => same(field(a, key), field(b, key)));
}

function field(value: object, key: string): unknown {
  return (value as Record<string, unknown>)[key];
}
