/**
 * Which message of a listing is which entry of the ledger. Unique-ids lie: different messages may share one, one may be
 * used again, and some servers change sizes between sessions. So a row is taken for a known message on the unique-id
 * alone only where nothing speaks against it; else its fingerprint is asked for, and where that is no proof, its octets.
 * Where doubt remains the row is a new message: delivering twice beats deleting undelivered.
 */

import { isWeak } from '../mail/fingerprint.ts';
import type { Entry } from './entry.ts';

/** One message as the server lists it. `uniqueId` is never empty here. */
export interface Row {
  readonly messageNumber: number;
  readonly uniqueId: string;
  /** -1 if LIST said nothing of it. */
  readonly size: number;
}

/** What has been found out about a row beyond the listing. */
export interface Evidence {
  readonly fingerprint: string;
  /** Set once all octets were seen. */
  readonly sha?: string;
}

export type Match =
  | { readonly kind: 'new' }
  | { readonly kind: 'known'; readonly entry: Entry }
  /** The fingerprint is needed (TOP, or RETR where there is no TOP). */
  | { readonly kind: 'identify' }
  /** All octets are needed. */
  | { readonly kind: 'compare' };

const NEW: Match = { kind: 'new' };
const IDENTIFY: Match = { kind: 'identify' };
const COMPARE: Match = { kind: 'compare' };

/**
 * Matches all rows that carry one unique-id with all entries that do.
 * @param evidence by message number
 * @returns one match a row, in the order of the rows; no entry twice
 */
export function matchGroup(
  rows: readonly Row[],
  entries: readonly Entry[],
  evidence: ReadonlyMap<number, Evidence>,
): Match[] {
  if (entries.length === 0) return rows.map(() => NEW);
  const [row] = rows;
  const [entry] = entries;
  if (rows.length === 1 && entries.length === 1 && row && entry && !isDoubtful(row, entry)) {
    const seen = evidence.get(row.messageNumber);
    if (!seen || seen.fingerprint === entry.fingerprint || entry.fingerprint === '') return [{ kind: 'known', entry }];
  }
  const matches = rows.map((): Match => IDENTIFY);
  const byFingerprint = new Map<string, number[]>();
  rows.forEach((each, index) => {
    const seen = evidence.get(each.messageNumber);
    if (seen) byFingerprint.set(seen.fingerprint, [...(byFingerprint.get(seen.fingerprint) ?? []), index]);
  });
  for (const [fingerprint, indexes] of byFingerprint) {
    const candidates = entries.filter((each) => each.fingerprint === fingerprint);
    const nameless = entries.filter((each) => each.fingerprint === '');
    const found = matchCopies(
      indexes.map((index) => rows[index] as Row),
      candidates.length > 0 ? candidates : entries.length === rows.length ? nameless : [],
      evidence,
    );
    indexes.forEach((index, position) => (matches[index] = found[position] ?? NEW));
  }
  return matches;
}

/** True if the unique-id alone does not prove that this row is this entry. */
function isDoubtful(row: Row, entry: Entry): boolean {
  if (entry.state === 'deleted' || entry.state === 'deleting' || entry.absences > 0) return true;
  return row.size !== entry.size && row.size !== -1 && entry.size !== -1;
}

/** Rows and entries that share unique-id and fingerprint. */
function matchCopies(
  rows: readonly Row[],
  entries: readonly Entry[],
  evidence: ReadonlyMap<number, Evidence>,
): readonly Match[] {
  // What came back after it had been seen to be gone is a new copy, however alike.
  const living = entries.filter((entry) => !(entry.state === 'deleted' && entry.absences > 0));
  if (living.length === 0) return rows.map(() => NEW);
  if (isPlain(rows, living)) return rows.map((_, index) => ({ kind: 'known', entry: living[index] as Entry }));
  const left = [...living];
  return rows.map((row) => {
    const sha = evidence.get(row.messageNumber)?.sha;
    if (sha === undefined) return COMPARE;
    const at = left.findIndex((entry) => entry.sha === sha || entry.sha === '');
    if (at < 0) return NEW;
    const [entry] = left.splice(at, 1);
    return { kind: 'known', entry: entry as Entry };
  });
}

/** True if any assignment of these rows to these entries has the same consequences. */
function isPlain(rows: readonly Row[], entries: readonly Entry[]): boolean {
  const [first] = entries;
  if (!first || rows.length !== entries.length) return false;
  if (first.state === 'deleted') return false;
  if (rows.length > 1) {
    if (!entries.every((entry) => entry.state === first.state && (first.state !== 'open' || entry.sha === '')))
      return false;
  }
  if (!isWeak(first.fingerprint) || first.fingerprint === '') return true;
  return sizes(rows) === sizes(entries) && first.state !== 'deleting';
}

function sizes(sized: readonly { readonly size: number }[]): string {
  return sized
    .map(({ size }) => size)
    .sort((a, b) => a - b)
    .join();
}
