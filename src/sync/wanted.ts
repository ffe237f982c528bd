/**
 * Which destinations an entry still wants, and what its deliveries come to. A required destination must confirm before the
 * message may be deleted. An optional one must only have been tried; but one destination at least must have confirmed. A
 * destination that rejected is replaced by its fallback, if it has one. Pure.
 */

import type { DeliveryRecord, Entry } from './entry.ts';

export interface Wants {
  /** Every destination that a message of this account may go to, fallbacks aside. */
  readonly deliverTo: readonly string[];
  /** True if rules choose among them: then those recorded with the entry are meant, once it was retrieved. */
  readonly routed?: boolean;
  readonly optional?: readonly string[];
  /** Destination -> the one that is used once it has rejected a message. */
  readonly fallback?: Readonly<Record<string, string>>;
}

export type Verdict = 'open' | 'confirmed' | 'quarantined';

/** The destinations that the entry goes to, with those fallbacks that have become due. */
export function wantedBy(entry: Entry, wants: Wants): readonly string[] {
  const { deliverTo, routed = false, fallback = {} } = wants;
  // Nearly always: all go on as the config says.
  if (!routed && !hasOne(entry, 'waived') && !hasOne(entry, 'rejected')) return deliverTo;
  const recorded = deliverTo.filter((name) => entry.deliveries[name] !== undefined);
  const names = routed && recorded.length > 0 ? recorded : [...deliverTo];
  // A person may have sent it elsewhere instead, to whatever the config has.
  if (hasOne(entry, 'waived')) {
    names.push(...Object.keys(entry.deliveries).filter((name) => !names.includes(name)));
  }
  for (const name of names) {
    const next = fallback[name];
    // Grows while it is walked: a fallback may have one of its own.
    if (next !== undefined && entry.deliveries[name]?.state === 'rejected' && !names.includes(next)) names.push(next);
  }
  return names;
}

/** True if a delivery is in that state. Asked many times for each message. */
function hasOne({ deliveries }: Entry, state: DeliveryRecord['state']): boolean {
  for (const name in deliveries) if (deliveries[name]?.state === state) return true;
  return false;
}

/** Destinations that a person sent messages to, beyond those of the account. */
export function redirectsOf(entries: Iterable<Entry>): string[] {
  const names = new Set<string>();
  for (const { deliveries } of entries) {
    const records = Object.entries(deliveries);
    if (!records.some(([, { state }]) => state === 'waived')) continue;
    for (const [name, { state }] of records) if (state !== 'waived') names.add(name);
  }
  return [...names];
}

/**
 * What the deliveries of an open entry come to.
 * @param paused destinations that take nothing for now: an optional one of them is not waited for
 */
export function verdictOf(entry: Entry, wants: Wants, paused: readonly string[] = []): Verdict {
  const { optional = [], fallback = {} } = wants;
  const all = wantedBy(entry, wants);
  if (all.length === 0) return 'open';
  let isAsked = false;
  let anyConfirmed = false;
  // One has not confirmed yet that must.
  let isOpen = false;
  // One has not that need not, if another has.
  let isLeft = false;
  // Each has said yes or no.
  let isOver = true;
  for (const name of all) {
    const record = entry.deliveries[name];
    const state = record?.state;
    if (state === 'waived' || isReplaced(entry, name, fallback)) continue;
    isAsked = true;
    if (state === 'confirmed') {
      anyConfirmed = true;
      continue;
    }
    if (state !== 'rejected') isOver = false;
    const isSpared = state !== 'started' && paused.includes(name);
    if (optional.includes(name) && (wasTried(record) || isSpared)) isLeft = true;
    else isOpen = true;
  }
  // Fallbacks in a circle, and each has rejected.
  if (!isAsked) return 'quarantined';
  if (!isOpen && (anyConfirmed || !isLeft)) return 'confirmed';
  return isOver ? 'quarantined' : 'open';
}

/** How many of these messages wait for a further attempt, and how many for a person; some may wait for both. */
export function waitingOf(entries: Iterable<Entry>, wants: Wants): { deferred: number; quarantined: number } {
  let deferred = 0;
  let quarantined = 0;
  for (const entry of entries) {
    if (entry.state === 'quarantined' || (entry.state === 'open' && isRefused(entry, wants))) quarantined += 1;
    else if (entry.state === 'open') deferred += 1;
  }
  return { deferred, quarantined };
}

/** True if a destination has rejected that must confirm. */
function isRefused(entry: Entry, wants: Wants): boolean {
  const { optional = [], fallback = {} } = wants;
  return wantedBy(entry, wants).some(
    (name) =>
      entry.deliveries[name]?.state === 'rejected' && !optional.includes(name) && !isReplaced(entry, name, fallback),
  );
}

function isReplaced(entry: Entry, name: string, fallback: Readonly<Record<string, string>>): boolean {
  return entry.deliveries[name]?.state === 'rejected' && fallback[name] !== undefined;
}

function wasTried(record: DeliveryRecord | undefined): boolean {
  return record !== undefined && record.state !== 'started' && record.attempt > 0;
}
