/**
 * Entries as they lie in Redis: JSON arrays without names; and shorter than that, a few characters, where a message needs nothing
 * any more, since an account may have a million of those.
 */

import type { DeliveryRecord, Entry, EntryState, RecipientRecord } from '../sync/entry.ts';

const VERSION = 1;

const STATE_CODES: Readonly<Record<EntryState, string>> = {
  open: 'o',
  confirmed: 'c',
  kept: 'k',
  deleting: 'p',
  deleted: 'd',
  quarantined: 'q',
  discarded: 'x',
  skipped: 's',
};
const STATES = new Map(Object.entries(STATE_CODES).map(([state, code]) => [code, state as EntryState]));

const DELIVERY_CODES = { started: 's', confirmed: 'c', deferred: 'd', rejected: 'r', waived: 'w' } as const;
const DELIVERY_STATES = new Map(Object.entries(DELIVERY_CODES).map(([state, code]) => [code as string, state]));

type PackedDelivery = [
  state: string,
  attempt: number,
  at: number,
  next: number,
  inDoubt: number,
  said: string,
  recipients?: Record<string, RecipientRecord>,
  /** Left out where it is `at`. */
  since?: number,
];

type Packed = [
  state: string,
  fingerprint: string,
  copy: number,
  sha: string,
  size: number,
  firstSeen: number,
  rest?: [
    deliveries: Record<string, PackedDelivery>,
    reason: string,
    failures: number,
    next: number,
    absences: number,
    absentSince: number,
  ],
];

/** True if nothing is left to do for it: its deliveries need not be kept, the trail has them. */
export function isSettled(entry: Entry): boolean {
  return (entry.state === 'kept' || entry.state === 'skipped') && entry.absences === 0;
}

/** All entries of one unique-id as one value. */
export function encodeGroup(entries: readonly Entry[]): string {
  const [only] = entries;
  if (only && entries.length === 1 && isSettled(only) && isPlain(only)) return encodeShort(only);
  return JSON.stringify([VERSION, ...entries.map(pack)]);
}

/** @throws SyntaxError if the value is none of ours: a ledger that cannot be read must never look empty */
export function decodeGroup(uniqueId: string, value: string): Entry[] {
  if (!value.startsWith('[')) return [decodeShort(uniqueId, value)];
  const [version, ...packed] = JSON.parse(value) as [number, ...Packed[]];
  if (version !== VERSION)
    throw new SyntaxError(`ledger entry of version ${String(version)}, this program knows ${VERSION}`);
  return packed.map((each) => unpack(uniqueId, each));
}

/**
 * What a settled message is known by: its state, fingerprint, hash, copy, size and the second it was first seen in, numbers to the
 * base of 36 and the size counted from -1.
 */
const SHORT = /^([ks])([^,]*),([^,]*),([0-9a-z]+),([0-9a-z]+),([0-9a-z]+)$/;

function isPlain({ fingerprint, sha, size }: Entry): boolean {
  return !`${fingerprint}${sha}`.includes(',') && size >= -1;
}

function encodeShort({ state, fingerprint, sha, copy, size, firstSeen }: Entry): string {
  const seen = Math.floor(firstSeen / 1000);
  return `${STATE_CODES[state]}${fingerprint},${sha},${copy.toString(36)},${(size + 1).toString(36)},${seen.toString(36)}`;
}

function decodeShort(uniqueId: string, value: string): Entry {
  const match = SHORT.exec(value);
  if (!match) throw new SyntaxError('ledger entry that this program does not know how to read');
  const [, code = '', fingerprint = '', sha = '', copy = '', size = '', seen = ''] = match;
  return unpack(uniqueId, [code, fingerprint, parseInt(copy, 36), sha, parseInt(size, 36) - 1, parseInt(seen, 36)]);
}

function pack(entry: Entry): Packed {
  const head: Packed = [
    STATE_CODES[entry.state],
    entry.fingerprint,
    entry.copy,
    entry.sha,
    entry.size,
    Math.floor(entry.firstSeen / 1000),
  ];
  if (isSettled(entry)) return head;
  const deliveries = mapValues(entry.deliveries, packDelivery);
  const { reason, retrieval, absences, absentSince } = entry;
  head.push([deliveries, reason, retrieval.failures, retrieval.next, absences, absentSince]);
  return head;
}

function unpack(uniqueId: string, [code, fingerprint, copy, sha, size, firstSeen, rest]: Packed): Entry {
  const state = STATES.get(code);
  if (!state) throw new SyntaxError(`ledger entry in an unknown state`);
  const [deliveries, reason, failures, next, absences, absentSince] = rest ?? [{}, '', 0, 0, 0, 0];
  return {
    uniqueId,
    fingerprint,
    copy,
    sha,
    size,
    firstSeen: firstSeen * 1000,
    state,
    deliveries: mapValues(deliveries, unpackDelivery),
    reason,
    retrieval: { failures, next },
    absences,
    absentSince,
  };
}

function packDelivery(record: DeliveryRecord): PackedDelivery {
  const { state, attempt, at, next, since, inDoubt, said, recipients } = record;
  const packed: PackedDelivery = [DELIVERY_CODES[state], attempt, at, next, inDoubt, said];
  if (since !== at) packed.push({ ...recipients }, since);
  else if (Object.keys(recipients).length > 0) packed.push({ ...recipients });
  return packed;
}

function unpackDelivery(packed: PackedDelivery): DeliveryRecord {
  const [code, attempt, at, next, inDoubt, said, recipients = {}, since = at] = packed;
  const state = DELIVERY_STATES.get(code) as DeliveryRecord['state'] | undefined;
  if (!state) throw new SyntaxError('ledger delivery in an unknown state');
  return { state, attempt, at, next, since, inDoubt, said, recipients };
}

/** By names of the config, which begin with a letter or digit: none is `__proto__`. */
function mapValues<A, B>(record: Readonly<Record<string, A>>, map: (value: A) => B): Record<string, B> {
  const mapped: Record<string, B> = {};
  for (const name of Object.keys(record)) mapped[name] = map(record[name] as A);
  return mapped;
}
