/**
 * (listing, ledger, policy, now) -> what to retrieve, delete, leave and forget, and when to come back. Pure, so that every
 * rule is a table of examples. It never asks to delete what the ledger does not show as confirmed by every destination.
 */

import type { AccountState } from './account.ts';
import { mayDelete, newEntry, step } from './entry.ts';
import type { Entry, Identity } from './entry.ts';
import { matchGroup } from './identity.ts';
import type { Evidence, Match, Row } from './identity.ts';
import { recogniseMove } from './move.ts';
import { conclude } from './settle.ts';
import { wantedBy } from './wanted.ts';
import type { Wants } from './wanted.ts';

export interface Policy extends Wants {
  readonly retention: 'delete' | 'keep' | { readonly deleteAfter: number };
  readonly firstPoll: 'deliver' | 'skip';
  readonly maxMessageSize: number;
  readonly maxMessagesPerPoll: number;
}

export interface PlanInput {
  readonly policy: Policy;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** True until a poll of this account has ended well. */
  readonly first: boolean;
  /** A complete listing, but for rows whose only entry needs nothing (`isQuiet`): those are only counted. */
  readonly rows: readonly Row[];
  readonly quiet: number;
  /** True if the complete listing before this one was empty too. */
  readonly wasEmpty: boolean;
  /** Every entry that has a row above, and every entry that has no row at all; by unique-id. */
  readonly entries: ReadonlyMap<string, readonly Entry[]>;
  /** What is known of single rows, by message number. */
  readonly evidence: ReadonlyMap<number, Evidence>;
  /** When a destination may be tried: 0 now, else milliseconds since 1970. */
  readonly opensAt: (destination: string) => number;
  /** True for a delivery that an earlier poll began and that still runs. */
  readonly inFlight: (entry: Identity, destination: string) => boolean;
}

export interface Retrieval {
  readonly row: Row;
  /** Undefined for a new message. */
  readonly entry: Entry | undefined;
  /** True if only the octets can tell which entry this is, or whether it is new. */
  readonly compare: boolean;
}

export interface Plan {
  /** If not empty, find their fingerprints and plan again; nothing else here counts then. */
  readonly identify: readonly Row[];
  readonly retrieve: readonly Retrieval[];
  readonly delete: readonly { readonly row: Row; readonly entry: Entry }[];
  /** Entries to be written as they stand here: `before` is what they replace. */
  readonly put: readonly { readonly before: Entry | undefined; readonly after: Entry }[];
  readonly forget: readonly Entry[];
  /** Messages that were recognised under other unique-ids: `from` is forgotten above, `to` put. */
  readonly renamed: readonly { readonly from: Entry; readonly to: Entry }[];
  /** Which message number is which entry, for all rows that are known. */
  readonly known: ReadonlyMap<number, Entry>;
  /** When something here becomes due by itself; 0 if nothing does. */
  readonly next: number;
  /** True if messages were left for a further poll. */
  readonly more: boolean;
  /** Messages that could not be matched after the server changed its unique-ids: quarantined above. */
  readonly unmatched: number;
}

/** What is to be done about one message. */
export type Action =
  | { readonly do: 'nothing'; readonly next: number }
  | { readonly do: 'put'; readonly entry: Entry }
  | { readonly do: 'delete'; readonly entry: Entry }
  | { readonly do: 'retrieve'; readonly destinations: readonly string[] };

const NOTHING: Action = { do: 'nothing', next: 0 };
const DAY = 24 * 60 * 60 * 1000;

/** The plan for one poll. */
export function plan(input: PlanInput): Plan {
  const matched = matchAll(input);
  const identify = matched.filter(({ match }) => match.kind === 'identify').map(({ row }) => row);
  const builder = new Builder(input);
  const absent = absentEntries(input, matched);
  if (identify.length > 0) return builder.finish(identify);

  const fresh = matched.filter(({ match }) => match.kind === 'new').map(({ row }) => row);
  const move = input.first ? undefined : recogniseMove({ ...input, fresh, absent, living: countLiving(input) });
  if (move && move.identify.length > 0) return builder.finish(move.identify);
  for (const { from, to } of move?.rebound ?? []) builder.rebind(from, to);
  const moved = new Set(move?.rebound.map(({ to }) => to));

  for (const { row, match } of matched) {
    if (match.kind === 'known') builder.known(row, match.entry);
    else if (match.kind === 'compare') builder.retrieve({ row, entry: undefined, compare: true });
    else if (!moved.has(row)) {
      if (!move || move.restIsNew) builder.fresh(row);
      else builder.unmatched(row);
    }
  }
  const gone = new Set(move?.rebound.map(({ from }) => from));
  for (const entry of absent) if (!gone.has(entry)) builder.absent(entry);
  return builder.finish([]);
}

/** What is to be done about a message that is this entry and lies on the server. */
export function decide(entry: Entry, input: Pick<PlanInput, 'policy' | 'now' | 'opensAt' | 'inFlight'>): Action {
  const { policy, now } = input;
  switch (entry.state) {
    case 'open':
      return decideOpen(entry, input);
    case 'confirmed':
      if (policy.retention === 'delete') return { do: 'delete', entry };
      return { do: 'put', entry: step(entry, 'kept') };
    case 'kept': {
      if (typeof policy.retention === 'string') return NOTHING;
      const due = entry.firstSeen + policy.retention.deleteAfter;
      return now >= due ? { do: 'delete', entry } : { do: 'nothing', next: due };
    }
    case 'discarded':
      return policy.retention === 'keep' ? { do: 'put', entry: step(entry, 'skipped') } : { do: 'delete', entry };
    case 'deleting':
    case 'deleted':
      return { do: 'delete', entry };
    case 'quarantined':
    case 'skipped':
      return NOTHING;
  }
}

function decideOpen(entry: Entry, { policy, now, opensAt, inFlight }: Parameters<typeof decide>[1]): Action {
  // What the config wants may have changed since the last attempt.
  const wanted = wantedBy(entry, policy);
  const paused = wanted.filter((name) => opensAt(name) > now);
  const concluded = conclude(entry, policy, paused);
  if (concluded !== entry) return { do: 'put', entry: concluded };
  if (entry.retrieval.next > now) return { do: 'nothing', next: entry.retrieval.next };
  let next = 0;
  const destinations: string[] = [];
  for (const name of wanted) {
    const record = entry.deliveries[name];
    if (
      record?.state === 'confirmed' ||
      record?.state === 'rejected' ||
      record?.state === 'waived' ||
      inFlight(entry, name)
    )
      continue;
    const due = Math.max(record?.next ?? 0, opensAt(name));
    if (due <= now) destinations.push(name);
    else next = next === 0 ? due : Math.min(next, due);
  }
  return destinations.length > 0 ? { do: 'retrieve', destinations } : { do: 'nothing', next };
}

/** True if a row that is this, its unique-id's only entry, needs no look at all. Settled mail is nearly all of a big maildrop. */
export function isQuiet(entry: Entry, size: number, policy: Policy, now: number): boolean {
  if (entry.absences > 0 || (size !== entry.size && size !== -1 && entry.size !== -1)) return false;
  if (entry.state === 'skipped') return true;
  if (entry.state !== 'kept') return false;
  return typeof policy.retention === 'string' || now < entry.firstSeen + policy.retention.deleteAfter;
}

/** True if nothing but new mail could give a poll work. */
export function mayBeIdle(
  state: AccountState,
  open: Iterable<Entry>,
  decided: (entry: Entry) => Action,
  now: number,
): boolean {
  if (state.polledSince === 0 || state.resume !== undefined || state.more) return false;
  if (state.next > 0 && state.next <= now) return false;
  for (const entry of open) {
    // What stayed away from two listings is only waited for.
    if (entry.absences >= 2 && entry.state !== 'deleted') continue;
    if (entry.state !== 'quarantined' && entry.state !== 'open') return false;
    if (entry.absences > 0 || decided(entry).do === 'retrieve') return false;
  }
  return true;
}

interface MatchedRow {
  readonly row: Row;
  readonly match: Match;
}

function matchAll(input: PlanInput): MatchedRow[] {
  const groups = new Map<string, Row[]>();
  for (const row of input.rows) {
    const group = groups.get(row.uniqueId);
    if (group) group.push(row);
    else groups.set(row.uniqueId, [row]);
  }
  const baseline = input.first && input.policy.firstPoll === 'skip';
  const matched: MatchedRow[] = [];
  for (const [uniqueId, rows] of groups) {
    const matches = matchGroup(rows, input.entries.get(uniqueId) ?? [], input.evidence);
    rows.forEach((row, index) => {
      const match = matches[index] ?? { kind: 'new' };
      // Twins that are skipped must be told apart later, though they are never retrieved.
      const nameless = baseline && rows.length > 1 && match.kind === 'new' && !input.evidence.has(row.messageNumber);
      matched.push({ row, match: nameless ? { kind: 'identify' } : match });
    });
  }
  return matched.sort((a, b) => a.row.messageNumber - b.row.messageNumber);
}

function absentEntries(input: PlanInput, matched: readonly MatchedRow[]): Entry[] {
  const present = new Set<Entry>();
  const undecided = new Set<string>();
  for (const { row, match } of matched) {
    if (match.kind === 'known') present.add(match.entry);
    if (match.kind === 'compare') undecided.add(row.uniqueId);
  }
  const absent: Entry[] = [];
  for (const [uniqueId, entries] of input.entries) {
    if (!undecided.has(uniqueId)) for (const entry of entries) if (!present.has(entry)) absent.push(entry);
  }
  return absent;
}

function countLiving(input: PlanInput): number {
  let living = input.quiet;
  for (const entries of input.entries.values()) living += entries.filter((entry) => entry.state !== 'deleted').length;
  return living;
}

class Builder {
  readonly #input: PlanInput;
  readonly #retrieve: Retrieval[] = [];
  readonly #compare: Retrieval[] = [];
  readonly #delete: { row: Row; entry: Entry }[] = [];
  readonly #put: { before: Entry | undefined; after: Entry }[] = [];
  readonly #forget: Entry[] = [];
  readonly #renamed: { from: Entry; to: Entry }[] = [];
  readonly #known = new Map<number, Entry>();
  readonly #copies = new Map<string, number>();
  #next = 0;
  #more = false;
  #unmatched = 0;

  constructor(input: PlanInput) {
    this.#input = input;
  }

  known(row: Row, found: Entry): void {
    const entry = this.#refreshed(row, found);
    this.#known.set(row.messageNumber, entry);
    const action = decide(entry, this.#input);
    switch (action.do) {
      case 'retrieve':
        this.retrieve({ row, entry, compare: false });
        break;
      case 'delete':
        if (!mayDelete(action.entry)) throw new Error(`a plan to delete what is ${action.entry.state}`);
        this.#delete.push({ row, entry: action.entry });
        break;
      case 'put':
        this.#put.push({ before: entry, after: action.entry });
        this.#known.set(row.messageNumber, action.entry);
        if (action.entry.state === 'confirmed' || action.entry.state === 'kept') this.known(row, action.entry);
        break;
      case 'nothing':
        this.#comeBack(action.next);
    }
  }

  fresh(row: Row): void {
    const { policy, now, first, evidence, opensAt } = this.#input;
    const entry = newEntry(row.uniqueId, row.size, now);
    if (first && policy.firstPoll === 'skip') {
      const fingerprint = evidence.get(row.messageNumber)?.fingerprint ?? '';
      this.#create({ ...entry, fingerprint, state: 'skipped' });
    } else if (row.size > policy.maxMessageSize) {
      const reason = `too large: ${row.size} octets, maxMessageSize is ${policy.maxMessageSize}`;
      const fingerprint = evidence.get(row.messageNumber)?.fingerprint ?? '';
      this.#create({ ...entry, fingerprint, state: 'quarantined', reason });
    } else if (policy.deliverTo.every((name) => opensAt(name) > now)) {
      this.#comeBack(Math.min(...policy.deliverTo.map(opensAt)));
    } else {
      this.retrieve({ row, entry: undefined, compare: false });
    }
  }

  unmatched(row: Row): void {
    const fingerprint = this.#input.evidence.get(row.messageNumber)?.fingerprint ?? '';
    const reason = 'the server changed its unique-ids, and this message is none of those known before';
    this.#create({ ...newEntry(row.uniqueId, row.size, this.#input.now), fingerprint, state: 'quarantined', reason });
    this.#unmatched += 1;
  }

  rebind(from: Entry, to: Row): void {
    const copy = this.#nextCopy(to.uniqueId, from.fingerprint);
    const after = { ...from, uniqueId: to.uniqueId, size: to.size, copy, absences: 0, absentSince: 0 };
    this.#forget.push(from);
    this.#renamed.push({ from, to: after });
    this.#put.push({ before: undefined, after });
    this.known(to, after);
  }

  retrieve(retrieval: Retrieval): void {
    if (retrieval.compare) this.#compare.push(retrieval);
    else if (this.#retrieve.length < this.#input.policy.maxMessagesPerPoll) this.#retrieve.push(retrieval);
    else this.#more = true;
  }

  /** What may turn out to be known comes last, and each time from another one on: it must not keep the others waiting. */
  #chosen(): Retrieval[] {
    const { now, policy } = this.#input;
    // Schedules are regular, so time itself would always begin with the same.
    const part = (Math.imul(Math.floor(now / 1000), 0x9e37_79b1) >>> 0) / 2 ** 32;
    const at = Math.floor(part * this.#compare.length);
    const room = policy.maxMessagesPerPoll - this.#retrieve.length;
    this.#more ||= this.#compare.length > room;
    const compare = [...this.#compare.slice(at), ...this.#compare.slice(0, at)].slice(0, room);
    return [...this.#retrieve, ...compare].sort((a, b) => a.row.messageNumber - b.row.messageNumber);
  }

  absent(entry: Entry): void {
    const { now, rows, quiet, wasEmpty } = this.#input;
    // A listing that is suddenly empty proves nothing, but where QUIT has said the same.
    if (entry.state !== 'deleted' && rows.length + quiet === 0 && !wasEmpty) return;
    const absences = entry.absences + 1;
    const absentSince = entry.absentSince || now;
    // What no QUIT has proved to be deleted may be missing for as long as a server is in trouble.
    const isProved = entry.state === 'deleted';
    if (absences >= 2 && (isProved || now - absentSince >= DAY)) this.#forget.push(entry);
    else if (absences <= 2) this.#put.push({ before: entry, after: { ...entry, absences, absentSince } });
  }

  finish(identify: readonly Row[]): Plan {
    const retrieve = this.#chosen();
    return {
      identify,
      retrieve,
      delete: this.#delete,
      put: this.#put,
      forget: this.#forget,
      renamed: this.#renamed,
      known: this.#known,
      next: this.#next,
      more: this.#more,
      unmatched: this.#unmatched,
    };
  }

  /** The entry as this listing shows it. */
  #refreshed(row: Row, entry: Entry): Entry {
    const fingerprint = entry.fingerprint || (this.#input.evidence.get(row.messageNumber)?.fingerprint ?? '');
    const size = row.size === -1 ? entry.size : row.size;
    if (size === entry.size && fingerprint === entry.fingerprint && entry.absences === 0) return entry;
    const after = { ...entry, size, fingerprint, absences: 0, absentSince: 0 };
    this.#put.push({ before: entry, after });
    return after;
  }

  #create(entry: Entry): void {
    const copy = this.#nextCopy(entry.uniqueId, entry.fingerprint);
    this.#put.push({ before: undefined, after: { ...entry, copy } });
  }

  #nextCopy(uniqueId: string, fingerprint: string): number {
    const twins = `${uniqueId}\n${fingerprint}`;
    const known = (this.#input.entries.get(uniqueId) ?? []).filter((each) => each.fingerprint === fingerprint);
    const copy = this.#copies.get(twins) ?? known.reduce((most, each) => Math.max(most, each.copy + 1), 0);
    this.#copies.set(twins, copy + 1);
    return copy;
  }

  #comeBack(at: number): void {
    if (at > 0) this.#next = this.#next === 0 ? at : Math.min(this.#next, at);
  }
}
