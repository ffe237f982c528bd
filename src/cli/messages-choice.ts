/** Which messages of the ledger a person means. One unique-id may stand for different messages; then nothing is guessed. */

import type { Store } from '../app.ts';
import { readEntries } from '../store/ledger.ts';
import { entryKey } from '../sync/entry.ts';
import type { Entry } from '../sync/entry.ts';
import { printable } from '../untrusted.ts';
import { UsageError } from './command.ts';

/** The messages of an account that are wanted, oldest first. @throws if Redis is out of reach */
export async function collect(store: Store, account: string, isWanted: (entry: Entry) => boolean): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of readEntries(store.redis, account)) if (isWanted(entry)) found.push(entry);
  return found.sort((a, b) => a.firstSeen - b.firstSeen || (entryKey(a) < entryKey(b) ? -1 : 1));
}

/** What tells messages of one unique-id apart, as a person types it: the fingerprint, and which copy if there are more. */
export function signOf({ fingerprint, copy }: Pick<Entry, 'fingerprint' | 'copy'>): string {
  return `${fingerprint === '' ? '-' : fingerprint}${copy > 0 ? `/${String(copy)}` : ''}`;
}

/** Those with this sign, or, if none has it, those whose sign begins so. */
export function withSign(entries: readonly Entry[], sign: string | undefined): Entry[] {
  if (sign === undefined) return [...entries];
  const exact = entries.filter((entry) => signOf(entry) === sign);
  return exact.length > 0 ? exact : entries.filter((entry) => signOf(entry).startsWith(sign));
}

/** @throws UsageError if two of these messages have one unique-id */
export function noTwins(entries: readonly Entry[]): void {
  for (const [uniqueId, twins] of Map.groupBy(entries, (entry) => entry.uniqueId)) {
    if (twins.length > 1)
      throw new UsageError(
        `${String(twins.length)} messages have the unique-id ${printable(uniqueId, 70)}; choose one with --fingerprint: ${twins.map(signOf).join(', ')}`,
      );
  }
}
