/**
 * Which message of a listing is which entry of the ledger. Unique-ids lie: different messages may share one, one may be
 * used again, and some servers change sizes between sessions. So a row is taken for a known message on the unique-id
 * alone only where nothing speaks against it; else its fingerprint is asked for, and where that is no proof, its octets.
 * Where doubt remains the row is a new message: delivering twice beats deleting undelivered.
 */

import { isWeak } from '../mail/fingerprint.ts';
import { entryKey, isSame, mayDelete } from './entry.ts';
import type { Entry, Identity } from './entry.ts';

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
  /** As `Entry.sha`; set once all octets were seen. */
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

/** Which entries are which messages of one session, so that twins are never taken for each other. */
export class Assignments {
  /** By unique-id the first entry of it, which nearly always is the only one. */
  readonly #first = new Map<string, Identity & { messageNumber: number }>();
  /** The others, by `entryKey`. */
  readonly #others = new Map<string, number>();

  set(entry: Identity, messageNumber: number): void {
    const { uniqueId, fingerprint, copy } = entry;
    const first = this.#first.get(uniqueId);
    if (first === undefined) this.#first.set(uniqueId, { uniqueId, fingerprint, copy, messageNumber });
    else if (isSame(first, entry)) first.messageNumber = messageNumber;
    else this.#others.set(entryKey(entry), messageNumber);
  }

  /** The message number of the entry, if it has one. */
  holderOf(entry: Identity): number | undefined {
    const first = this.#first.get(entry.uniqueId);
    if (first === undefined) return undefined;
    return isSame(first, entry) ? first.messageNumber : this.#others.get(entryKey(entry));
  }
}

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
  if (rows.length === 1 && entries.length === 1 && row && entry && isBeyondDoubt(row, entry, evidence))
    return [{ kind: 'known', entry }];
  const matches = rows.map((): Match => IDENTIFY);
  const byFingerprint = new Map<string, number[]>();
  rows.forEach((each, index) => {
    const seen = evidence.get(each.messageNumber);
    if (seen) byFingerprint.set(seen.fingerprint, [...(byFingerprint.get(seen.fingerprint) ?? []), index]);
  });
  for (const [fingerprint, indexes] of byFingerprint) {
    const candidates = entries.filter((each) => each.fingerprint === fingerprint);
    const found = matchCopies(
      indexes.map((index) => rows[index] as Row),
      candidates,
      evidence,
    );
    indexes.forEach((index, position) => (matches[index] = found[position] ?? NEW));
  }
  matchNameless(rows, matches, entries);
  return matches;
}

/** True if nothing speaks against this row being this entry, which is the only one. */
function isBeyondDoubt(row: Row, entry: Entry, evidence: ReadonlyMap<number, Evidence>): boolean {
  if (isDoubtful(row, entry)) return false;
  const seen = evidence.get(row.messageNumber);
  // What a person discarded unseen is looked at before it is deleted, so that a delete to be repeated hits the same.
  if (seen === undefined) return entry.state !== 'discarded' || entry.fingerprint !== '';
  return seen.sha === undefined && (seen.fingerprint === entry.fingerprint || entry.fingerprint === '');
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
  const shas = rows.map((row) => evidence.get(row.messageNumber)?.sha);
  const paired = shas.every((sha) => sha === undefined) ? pairUp(rows, withoutGone(living, rows.length)) : undefined;
  if (paired) return paired;
  const left = [...living];
  return shas.map((sha): Match => {
    if (sha === undefined) return COMPARE;
    const same = left.findIndex((entry) => entry.sha === sha);
    // Without octets to compare with, only what is not deleted on the strength of it.
    const at = same >= 0 ? same : left.findIndex((entry) => entry.sha === '' && !mayDelete(entry));
    if (at < 0) return NEW;
    const [entry] = left.splice(at, 1);
    return { kind: 'known', entry: entry as Entry };
  });
}

/**
 * Where the others account for all rows, what QUIT has said to be deleted is taken to be gone. If it is not, it stands for
 * one of them, and having been delivered everywhere it loses nothing by that.
 */
function withoutGone(entries: readonly Entry[], rows: number): readonly Entry[] {
  const others = entries.filter((entry) => entry.state !== 'deleted');
  return rows <= others.length ? others : entries;
}

/**
 * Which entry each row is, as far as that can be told, or does not matter, without the octets.
 * @returns undefined if it takes the octets of all
 */
function pairUp(rows: readonly Row[], entries: readonly Entry[]): readonly Match[] | undefined {
  const [first] = entries;
  if (!first || !entries.every(isTrusted)) return undefined;
  if (rows.length === 1 && entries.length === 1) {
    const isProof = !isWeak(first.fingerprint) && first.state !== 'deleting' && first.absences === 0;
    if (isProof || rows[0]?.size === first.size) return [{ kind: 'known', entry: first }];
  }
  const bySize = Map.groupBy(rows.keys(), (index) => rows[index]?.size);
  // A delete must never hang on which of two is which: then each of them must have a row of its size.
  const isMixed = !entries.every(mayDelete) && entries.some(mayDelete);
  const isComplete = entries.every(
    ({ size }) => (bySize.get(size)?.length ?? 0) >= entries.filter((each) => each.size === size).length,
  );
  if (isMixed && !isComplete) return undefined;
  const matches = rows.map((): Match => COMPARE);
  const strangers: number[] = [];
  let left = entries.length;
  for (const [size, indexes] of bySize) {
    const same = entries.filter((entry) => entry.size === size);
    left -= same.length;
    if (same.length === 0) for (const index of indexes) strangers.push(index);
    else if (indexes.length <= same.length && isAlike(same)) {
      indexes.forEach((index, at) => (matches[index] = { kind: 'known', entry: same[at] as Entry }));
    }
  }
  // Where every entry has found rows of its size, the others are none of them.
  if (left === 0) for (const index of strangers) matches[index] = NEW;
  return matches;
}

/** True if nothing depends on which of them is which. */
function isAlike(entries: readonly Entry[]): boolean {
  const [first] = entries;
  return (
    entries.length === 1 ||
    entries.every(({ state, sha }) => state === first?.state && (state !== 'open' || sha === ''))
  );
}

/** True if a fingerprint may tell that this entry is there: not where QUIT said that it is gone, or a look did. */
function isTrusted({ state, fingerprint, absences }: Entry): boolean {
  if (state === 'deleting') return !isWeak(fingerprint) && absences === 0;
  return state !== 'deleted';
}

/** Entries whose header nobody has seen (skipped, too large, never retrieved): known by size, or as all that is left. */
function matchNameless(rows: readonly Row[], matches: Match[], entries: readonly Entry[]): void {
  const nameless = entries.filter(
    ({ fingerprint, state, absences }) =>
      fingerprint === '' && state !== 'deleting' && state !== 'deleted' && (state !== 'discarded' || absences === 0),
  );
  const isLeft = (index: number): boolean => matches[index]?.kind === 'new';
  rows.forEach(({ size }, index) => {
    const at = isLeft(index) && size !== -1 ? nameless.findIndex((entry) => entry.size === size) : -1;
    if (at >= 0) matches[index] = { kind: 'known', entry: nameless.splice(at, 1)[0] as Entry };
  });
  const others = rows.map((_, at) => at).filter(isLeft);
  const [index] = others;
  const [entry] = nameless;
  if (others.length !== 1 || nameless.length !== 1 || index === undefined || !entry) return;
  // Another size: the server may have changed it. Not where the unique-id was away, or a delete would follow.
  if (entry.absences === 0 && !mayDelete(entry)) matches[index] = { kind: 'known', entry };
}
