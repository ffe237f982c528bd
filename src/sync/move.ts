/**
 * When a provider moves its servers, all unique-ids change and the whole maildrop looks new. Then messages are recognised
 * by fingerprint; what cannot be recognised is held for a person. Nothing is delivered again on a guess.
 */

import { isWeak } from '../mail/fingerprint.ts';
import type { Entry } from './entry.ts';
import type { Evidence, Row } from './identity.ts';

export interface Move {
  /** Fingerprints that are still needed; the rest is empty then. */
  readonly identify: readonly Row[];
  readonly rebound: readonly { readonly from: Entry; readonly to: Row }[];
  /** True if so many were recognised that the others must be new mail. */
  readonly restIsNew: boolean;
}

/** Fewer known messages than this say nothing about a regime of unique-ids. */
const FEW = 5;
const NEARLY_ALL = 0.9;

/**
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
  const gone = input.absent.filter(
    (entry) => entry.state !== 'deleted' && entry.state !== 'deleting' && entry.absences === 0,
  );
  if (input.living < FEW || gone.length * 2 <= input.living || input.fresh.length * 2 <= gone.length) return undefined;
  const identify = input.fresh.filter((row) => !input.evidence.has(row.messageNumber));
  if (identify.length > 0) return { identify, rebound: [], restIsNew: false };

  const byFingerprint = new Map<string, Entry[]>();
  for (const entry of gone) {
    if (isWeak(entry.fingerprint)) continue;
    byFingerprint.set(entry.fingerprint, [...(byFingerprint.get(entry.fingerprint) ?? []), entry]);
  }
  const rebound: { from: Entry; to: Row }[] = [];
  for (const row of input.fresh) {
    const from = byFingerprint.get(input.evidence.get(row.messageNumber)?.fingerprint ?? '')?.shift();
    if (from) rebound.push({ from, to: row });
  }
  return { identify: [], rebound, restIsNew: rebound.length >= gone.length * NEARLY_ALL };
}
