/**
 * What the ledger knows of one message, and the only steps by which that changes. The rule: a message gets to `deleting`
 * only from `confirmed` (every destination took it), from `kept` (confirmed, and its time is over) or from `discarded` (a
 * person said so). An illegal step throws.
 */

/**
 * - `open`: at least one destination has not confirmed yet.
 * - `confirmed`: every destination has; DELE may be sent.
 * - `kept`: every destination has, and retention leaves the message on the server.
 * - `deleting`: delete pending. DELE was or is about to be sent, and no +OK to QUIT has proved it.
 * - `deleted`: QUIT said +OK behind the DELE.
 * - `quarantined`: needs a person; still on the server.
 * - `discarded`: a person wants it deleted without delivery.
 * - `skipped`: was there before the first poll, or a person said so; never delivered, never deleted.
 */
export type EntryState =
  | 'open'
  | 'confirmed'
  | 'kept'
  | 'deleting'
  | 'deleted'
  | 'quarantined'
  | 'discarded'
  | 'skipped';

/** From each state to those that may follow. */
const STEPS: Readonly<Record<EntryState, readonly EntryState[]>> = {
  open: ['open', 'confirmed', 'kept', 'quarantined', 'discarded', 'skipped'],
  confirmed: ['confirmed', 'deleting', 'kept'],
  kept: ['kept', 'deleting'],
  deleting: ['deleting', 'deleted'],
  deleted: ['deleted', 'deleting'],
  quarantined: ['quarantined', 'open', 'discarded', 'skipped'],
  discarded: ['discarded', 'deleting', 'skipped', 'open'],
  skipped: ['skipped', 'open', 'discarded'],
};

/** One recipient of one delivery, where the destination knows recipients. */
export interface RecipientRecord {
  readonly kind: 'confirmed' | 'deferred' | 'rejected' | 'inDoubt';
  readonly said: string;
}

/**
 * One message to one destination, as far as it got. `started` means that an attempt is on its way, or that it was when we died;
 * `waived` that a person sent it elsewhere instead.
 */
export interface DeliveryRecord {
  readonly state: 'started' | 'confirmed' | 'deferred' | 'rejected' | 'waived';
  readonly attempt: number;
  /** When this state began; milliseconds since 1970. */
  readonly at: number;
  /** When the next attempt is due; 0 where none is. */
  readonly next: number;
  /** When the first attempt began, or the first one after a person released it; 0: there was none. `giveUpAfter` counts from here. */
  readonly since: number;
  /** How often an attempt ended without our knowing whether the destination took the message. */
  readonly inDoubt: number;
  /** The destination's own words. */
  readonly said: string;
  readonly recipients: Readonly<Record<string, RecipientRecord>>;
}

export interface Entry {
  readonly uniqueId: string;
  /** Empty until the header has been seen. */
  readonly fingerprint: string;
  /** Tells octet-identical headers under one unique-id apart: 0 for the first. */
  readonly copy: number;
  /** 128 bits of the SHA-256 of the body (`StoredMessage.bodySha256`), base64url; empty until retrieved. */
  readonly sha: string;
  /** As LIST said when last seen; -1 if it said nothing. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly firstSeen: number;
  readonly state: EntryState;
  readonly deliveries: Readonly<Record<string, DeliveryRecord>>;
  /** Why it is quarantined, or why it could not be retrieved. */
  readonly reason: string;
  /** Failed attempts to retrieve it, and when the next is due. */
  readonly retrieval: { readonly failures: number; readonly next: number };
  /** Complete listings in a row that did not show it, and the time of the first of them (0: none). */
  readonly absences: number;
  readonly absentSince: number;
}

/** A bug: a step that the table above does not allow. */
export class IllegalStep extends Error {
  override readonly name: string = 'IllegalStep';
}

/** A new entry for a message that has just been seen. */
export function newEntry(uniqueId: string, size: number, now: number): Entry {
  return {
    uniqueId,
    fingerprint: '',
    copy: 0,
    sha: '',
    size,
    firstSeen: now,
    state: 'open',
    deliveries: {},
    reason: '',
    retrieval: { failures: 0, next: 0 },
    absences: 0,
    absentSince: 0,
  };
}

/** What tells an entry from every other of its account. */
export type Identity = Pick<Entry, 'uniqueId' | 'fingerprint' | 'copy'>;

/** The identity as one string. */
export function entryKey(entry: Identity): string {
  return `${entry.uniqueId}\n${entry.fingerprint}\n${entry.copy}`;
}

/** True if both are the same message, in whatever state. */
export function isSame(one: Identity, other: Identity): boolean {
  return one.copy === other.copy && one.fingerprint === other.fingerprint && one.uniqueId === other.uniqueId;
}

/** The entry in another state. @throws IllegalStep */
export function step(entry: Entry, state: EntryState, changes?: Partial<Omit<Entry, 'state'>>): Entry {
  if (!STEPS[entry.state].includes(state)) throw new IllegalStep(`${entry.state} -> ${state}`);
  // Behind a second spread V8 takes ten times as long for each name.
  return changes === undefined ? { ...entry, state } : { ...entry, ...changes, state };
}

/** True if deletion needs no further step: the only two states from which DELE may follow, and the one that repeats it. */
export function mayDelete(entry: Entry): boolean {
  return STEPS[entry.state].includes('deleting');
}

/** A delivery that is due and was never tried. */
export function newDelivery(now: number): DeliveryRecord {
  return { state: 'deferred', attempt: 0, at: now, next: 0, since: 0, inDoubt: 0, said: '', recipients: {} };
}

/** The entry with one delivery replaced. */
export function withDelivery(entry: Entry, destination: string, record: DeliveryRecord): Entry {
  // Not in one literal: V8 takes ten times as long for a computed name there.
  const deliveries: Record<string, DeliveryRecord> = { ...entry.deliveries };
  deliveries[destination] = record;
  return { ...entry, deliveries };
}

/** The entry before its next attempt at a destination; an attempt that was under way when we died counts as in doubt. */
export function startDelivery(entry: Entry, destination: string, now: number): Entry {
  const before = entry.deliveries[destination];
  return withDelivery(entry, destination, {
    state: 'started',
    attempt: (before?.attempt ?? 0) + 1,
    at: now,
    next: 0,
    since: before === undefined || before.since === 0 ? now : before.since,
    inDoubt: (before?.inDoubt ?? 0) + (before?.state === 'started' ? 1 : 0),
    said: before?.said ?? '',
    recipients: before?.recipients ?? {},
  });
}
