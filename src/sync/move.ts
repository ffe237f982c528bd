/**
 * When a provider moves its servers, all unique-ids change and the whole maildrop looks new. Then messages are recognised
 * by fingerprint; what cannot be recognised is held for a person. Nothing is delivered again on a guess.
 */

import { isWeak } from '../mail/fingerprint.ts';
import { mayDelete } from './entry.ts';
import type { Entry } from './entry.ts';
import type { Evidence, Row } from './identity.ts';

export interface Move {
  /** Fingerprints that are still needed; the rest is empty then. */
  readonly identify: readonly Row[];
  readonly rebound: readonly { readonly from: Entry; readonly to: Row }[];
  /** True if what was not recognised must be new mail. */
  readonly restIsNew: boolean;
}

/** Fewer known messages than this say nothing about a regime of unique-ids. */
const FEW = 5;
const NEARLY_ALL = 0.9;

/**
 * Asked when most of what is known is gone. A move may come in pieces, and the maildrop may have been empty for a while
 * before; so whoever is new then is looked at, and who is recognised is never delivered again.
 * @param input.fresh rows that no entry explains
 * @param input.absent entries that no row explains
 * @param input.living how many messages the ledger takes to be on the server
 * @returns undefined if unique-ids go on as they were
 */
export function recogniseMove(input: {
  readonly fresh: readonly Row[];
  readonly absent: readonly Entry[];
  readonly living: number;
  readonly evidence: ReadonlyMap<number, Evidence>;
}): Move | undefined {
  const { fresh, absent, living, evidence } = input;
  const gone = absent.filter((entry) => entry.state !== 'deleted' && entry.state !== 'deleting');
  if (living < FEW || gone.length * 2 <= living || fresh.length === 0) return undefined;
  const identify = fresh.filter((row) => !evidence.has(row.messageNumber));
  if (identify.length > 0) return { identify, rebound: [], restIsNew: false };

  const known = new Map<string, Entry[]>();
  for (const entry of absent) {
    if (!isWeak(entry.fingerprint) && entry.state !== 'deleted')
      known.set(entry.fingerprint, [...(known.get(entry.fingerprint) ?? []), entry]);
  }
  const seen = Map.groupBy(fresh, (row) => evidence.get(row.messageNumber)?.fingerprint ?? '');
  const rebound = [...seen].flatMap(([fingerprint, rows]) => rebind(rows, known.get(fingerprint) ?? []));
  const areFew = fresh.length * 2 <= gone.length;
  // Emptied some time ago, and none of what comes now is any of what was there: an ordinary new start.
  const isEmptied = rebound.length === 0 && gone.every((entry) => entry.absences > 0 && !isWeak(entry.fingerprint));
  return { identify: [], rebound, restIsNew: areFew || isEmptied || rebound.length >= gone.length * NEARLY_ALL };
}

/** Rows and entries of one fingerprint. Which of several copies is which, only their sizes can tell. */
function rebind(rows: readonly Row[], entries: readonly Entry[]): { from: Entry; to: Row }[] {
  const left = [...entries];
  const rest: Row[] = [];
  const rebound: { from: Entry; to: Row }[] = [];
  for (const to of rows) {
    const at = left.findIndex(({ size }) => size === to.size);
    const alike = entries.filter(({ size }) => size === to.size);
    const [from] = at >= 0 && isInterchangeable(alike) ? left.splice(at, 1) : [];
    if (from) rebound.push({ from, to });
    else rest.push(to);
  }
  if (rest.length === left.length && isInterchangeable(left))
    for (const [index, to] of rest.entries()) rebound.push({ from: left[index] as Entry, to });
  return rebound;
}

/** True if no delivery and no delete depends on which of them is which. */
function isInterchangeable(entries: readonly Entry[]): boolean {
  return entries.length === 1 || entries.every(mayDelete);
}
