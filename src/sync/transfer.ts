/**
 * One message from its server to its destinations: retrieved, recognised, delivered to all at the same time, each outcome
 * written before anything follows from it. It never deletes: that is the poll's.
 */

import { hash } from 'node:crypto';
import type { Delivery, Destination, Outcome } from '../delivery/destination.ts';
import { reasonOf } from '../failure.ts';
import { fingerprintOf } from '../mail/fingerprint.ts';
import type { StoredMessage } from '../mail/message.ts';
import type { AccountEvents } from '../ops/events.ts';
import type { Breakers, Pass } from '../store/breakers.ts';
import { newDelivery, newEntry, startDelivery, step, withDelivery } from './entry.ts';
import type { DeliveryRecord, Entry, Identity } from './entry.ts';
import type { Hold } from './hold.ts';
import { matchGroup } from './identity.ts';
import type { Assignments } from './identity.ts';
import type { Load } from './load.ts';
import { decide } from './plan.ts';
import type { PlanInput, Retrieval } from './plan.ts';
import { signOf } from './retry.ts';
import { routedTo } from './route.ts';
import type { Route } from './route.ts';
import { settle, withdraw } from './settle.ts';
import type { SettlePolicy } from './settle.ts';

export interface TransferTools {
  readonly hold: Hold;
  readonly policy: SettlePolicy & PlanInput['policy'] & { readonly routes?: readonly Route[] | undefined };
  readonly destinations: ReadonlyMap<string, Destination>;
  readonly breakers: Breakers;
  readonly events: AccountEvents;
  /** Told of each delivery. */
  readonly load: Load;
  readonly now: () => number;
  readonly random: () => number;
  /** Aborted when deliveries must end at once: this process ends, or the account may be another worker's. */
  readonly hardStop: AbortSignal;
}

/** Numbers of the poll, counted as things happen. */
export interface Tally {
  retrieved: number;
  octets: number;
  delivered: number;
  deferred: number;
  rejected: number;
  inDoubt: number;
}

/**
 * Recognises a retrieved message by its octets.
 * @returns the entry it is, or a new one
 */
export function recognise(
  { row, entry, compare }: Retrieval,
  message: StoredMessage,
  tools: Pick<TransferTools, 'hold' | 'now'>,
  assigned: Assignments,
): { readonly before: Entry | undefined; readonly entry: Entry } {
  const fingerprint = fingerprintOf(message.header);
  const sha = shortSha(message.bodySha256);
  const group = tools.hold.ledger.group(row.uniqueId);
  const free = group.filter((each) => {
    const holder = assigned.holderOf(each);
    return holder === undefined || holder === row.messageNumber;
  });
  let found: Entry | undefined;
  if (entry && !compare && (entry.fingerprint === '' || entry.fingerprint === fingerprint)) {
    found = tools.hold.ledger.get(entry);
  } else if (free.length > 0) {
    const evidence = new Map([[row.messageNumber, { fingerprint, sha }]]);
    const [match] = compare || entry ? matchGroup([row], free, evidence) : [undefined];
    if (match?.kind === 'known' && (match.entry.fingerprint === '' || match.entry.fingerprint === fingerprint))
      found = match.entry;
  }
  const copies = group.filter((each) => each !== found && each.fingerprint === fingerprint);
  const copy =
    found?.fingerprint === fingerprint ? found.copy : copies.reduce((most, each) => Math.max(most, each.copy + 1), 0);
  const base = found ?? newEntry(row.uniqueId, row.size, tools.now());
  const known = {
    ...base,
    fingerprint,
    sha,
    copy,
    size: row.size === -1 ? base.size : row.size,
    retrieval: { failures: 0, next: 0 },
    absences: 0,
    absentSince: 0,
  };
  assigned.set(known, row.messageNumber);
  return { before: found, entry: known };
}

/** 128 bits of a SHA-256 in hexadecimal, as base64url. */
export function shortSha(sha256: string): string {
  return Buffer.from(sha256.slice(0, 32), 'hex').toString('base64url');
}

/**
 * Delivers to every destination that is due, at the same time. Resolves when each attempt has ended; its outcome is durable once
 * `ledger.flushed` has resolved, or a later write of the entry.
 * @param entry as `recognise` gave it, not written yet
 * @returns the entry as it stands then
 * @throws LedgerFailure if nothing may be written any more; then no further attempt is begun
 */
export async function deliver(
  before: Entry | undefined,
  entry: Entry,
  message: StoredMessage,
  tools: TransferTools,
  tally: Tally,
): Promise<Entry> {
  const { hold, load, now } = tools;
  const { ledger } = hold;
  let current = routed(entry, message, tools);
  let written = before;
  const tried = new Set<string>();
  for (;;) {
    const due = dueDestinations(current, tools).filter((name) => !tried.has(name));
    const sent = current;
    for (const name of due) {
      tried.add(name);
      hold.begin(sent, name);
    }
    try {
      if (tried.size === due.length) {
        if (before === undefined)
          ledger.record({ event: 'seen', uniqueId: entry.uniqueId, size: entry.size, at: now() });
        const { size: octets, sha256 } = message;
        ledger.record({ event: 'retrieved', uniqueId: entry.uniqueId, octets, sha256, at: now() });
        // By the rules; what deliveries come to is told with their outcomes.
        if (current.state === 'quarantined') {
          tools.events.quarantined({ uniqueId: entry.uniqueId, size: octets, sha256 }, current.reason);
          ledger.record({ event: 'quarantined', uniqueId: entry.uniqueId, reason: current.reason, at: now() });
        }
      }
      // What is sent at once is written again before that; until then its server has it.
      if (due.length > 0) ledger.stage(written, current);
      else await ledger.put(written, current);
      const tryAt = async (name: string): Promise<void> => {
        load.begin(name);
        try {
          await attempt(sent, name, message, tools, tally);
        } finally {
          load.end(name);
        }
      };
      const [only] = due;
      if (only !== undefined && due.length === 1) await tryAt(only);
      else await Promise.all(due.map(tryAt));
    } finally {
      for (const name of due) hold.end(sent, name);
    }
    current = ledger.get(current) ?? current;
    written = current;
    // A fallback may have become due just now, while the message is at hand.
    if (dueDestinations(current, tools).every((name) => tried.has(name))) return current;
  }
}

function dueDestinations(entry: Entry, { hold, policy, now, breakers }: TransferTools): readonly string[] {
  const action = decide(entry, {
    policy,
    now: now(),
    opensAt: (name) => breakers.opensAt(name),
    inFlight: (about, name) => hold.inFlight(about, name),
  });
  return action.do === 'retrieve' ? action.destinations : [];
}

/** Notes with the entry where the rules send it, so that its destinations are known before it is retrieved again. */
function routed(entry: Entry, { header, size }: StoredMessage, { policy, now }: TransferTools): Entry {
  if (policy.routes === undefined || entry.state !== 'open') return entry;
  // A person has said where it goes.
  if (Object.values(entry.deliveries).some(({ state }) => state === 'waived')) return entry;
  const names = routedTo(policy.routes, header, size);
  if (names.length === 0) return step(entry, 'quarantined', { reason: 'no rule of deliverTo fits this message' });
  const due = newDelivery(now());
  return names.reduce((noted, name) => (noted.deliveries[name] ? noted : withDelivery(noted, name, due)), entry);
}

async function attempt(
  identity: Identity,
  name: string,
  message: StoredMessage,
  tools: TransferTools,
  tally: Tally,
): Promise<void> {
  const { hold, destinations, breakers, now } = tools;
  const { ledger, lease } = hold;
  const destination = destinations.get(name);
  const entry = ledger.get(identity);
  if (!entry || tools.hardStop.aborted) return;
  if (!destination) {
    // A person sent it to a destination that has left the config since.
    note(
      identity,
      name,
      { kind: 'rejected', said: `the config has no destination ${name}`, scope: 'message' },
      message,
      tools,
      tally,
    );
    return;
  }
  const record = entry.deliveries[name];
  const turn: { pass?: Pass | undefined; begun?: Promise<boolean>; failure?: unknown } = {};
  const delivery: Delivery = {
    message,
    account: lease.account,
    uniqueId: entry.uniqueId,
    idempotencyKey: idempotencyKey(lease.account, entry, name),
    attempt: (record?.attempt ?? 0) + 1,
    firstSeen: new Date(entry.firstSeen),
    settled: settledOf(record),
    mayBegin() {
      // Asked only now: the destination may have been paused while this delivery waited for its turn.
      const pass = breakers.enter(name);
      const enter = (passed: Pass | undefined): boolean => (turn.pass = passed) !== undefined;
      return pass instanceof Promise ? pass.then(enter) : enter(pass);
    },
    begin() {
      turn.begun = begin(identity, name, tools, tally).catch((error: unknown) => {
        // The ledger does not take that it begins.
        turn.failure = error;
        return false;
      });
      return turn.begun;
    },
    signal: tools.hardStop,
  };
  let outcome: Outcome;
  try {
    outcome = await destination.deliver(delivery);
  } catch (error) {
    // A bug in the destination's code: what it did before is not known.
    tools.events.bug(error);
    outcome = { kind: 'inDoubt', said: reasonOf(error), scope: 'message' };
  }
  await turn.begun;
  const { pass, begun, failure } = turn;
  if (failure !== undefined) {
    if (pass) await breakers.cancel(pass);
    throw failure;
  }
  if (!pass || (outcome.kind === 'deferred' && (delivery.signal.aborted || !lease.isValid))) {
    // We ended it, or never began it: no attempt of the destination's, and nothing that speaks against it.
    if (pass) await breakers.cancel(pass);
    const current = ledger.get(identity);
    if (current && begun) await ledger.put(current, withdraw(current, name, now()));
    return;
  }
  await breakers.end(pass, signOf(outcome), outcome.said);
  note(identity, name, outcome, message, tools, tally);
}

const NOBODY: ReadonlySet<string> = new Set();

/** The recipients that need no further attempt. */
function settledOf(record: DeliveryRecord | undefined): ReadonlySet<string> {
  if (record === undefined || Object.keys(record.recipients).length === 0) return NOBODY;
  const settled = Object.entries(record.recipients).filter(
    ([, { kind }]) => kind === 'confirmed' || kind === 'rejected',
  );
  return new Set(settled.map(([address]) => address));
}

/**
 * The last step before anything is sent: *started* becomes durable. Not sooner, while a delivery waits for its turn: a crash
 * then would put in doubt what nobody can have got.
 * @returns false if the account may be another worker's by now: this process may have been stopped meanwhile
 */
async function begin(identity: Identity, name: string, tools: TransferTools, tally: Tally): Promise<boolean> {
  const { ledger, lease } = tools.hold;
  const entry = ledger.get(identity);
  if (!entry) return false;
  if (entry.deliveries[name]?.state === 'started')
    noteDoubt(entry, name, 'a crash came before the answer was written', tools, tally);
  await ledger.put(entry, startDelivery(entry, name, tools.now()));
  return lease.isValid || (await lease.confirm());
}

function note(
  identity: Identity,
  name: string,
  outcome: Outcome,
  message: StoredMessage,
  tools: TransferTools,
  tally: Tally,
): void {
  const { hold, policy, events, now, random } = tools;
  const entry = hold.ledger.get(identity);
  if (!entry) return;
  const after = settle(entry, name, outcome, policy, now(), random());
  const record = after.deliveries[name];
  const fields = { uniqueId: entry.uniqueId, size: message.size, sha256: message.sha256 };
  // What is in doubt is told below.
  if (outcome.kind !== 'inDoubt')
    hold.ledger.record({
      event: outcome.kind === 'confirmed' ? 'delivered' : outcome.kind,
      uniqueId: entry.uniqueId,
      destination: name,
      said: outcome.said,
      attempt: record?.attempt ?? 1,
      at: now(),
    });
  const written = hold.ledger.put(entry, after);
  if (outcome.kind === 'inDoubt') noteDoubt(entry, name, outcome.said, tools, tally);
  if (record?.state === 'confirmed') {
    tally.delivered += 1;
    events.delivered(fields, name, outcome.said, record.attempt);
  } else if (record?.state === 'deferred') {
    tally.deferred += 1;
    events.deferred(fields, name, outcome.said, record.attempt, record.next);
  } else tally.rejected += 1;
  if (after.state === 'quarantined') {
    events.quarantined(fields, after.reason);
    hold.ledger.record({ event: 'quarantined', uniqueId: entry.uniqueId, reason: after.reason, at: now() });
  }
  // Whoever goes on from here writes again, or waits for this; and fails then, if this fails.
  written.catch(() => undefined);
}

function noteDoubt(entry: Entry, name: string, said: string, { events, hold, now }: TransferTools, tally: Tally): void {
  tally.inDoubt += 1;
  const { counts } = hold.ledger.state;
  // Counted with the write that goes before the next attempt: another crash must not lose it. That write reports a failure.
  hold.ledger.saveState({ counts: { ...counts, inDoubt: counts.inDoubt + 1 } }).catch(() => undefined);
  events.inDoubt({ uniqueId: entry.uniqueId }, name, said);
  const attempt = entry.deliveries[name]?.attempt ?? 1;
  hold.ledger.record({ event: 'inDoubt', uniqueId: entry.uniqueId, destination: name, said, attempt, at: now() });
}

/** The same for every attempt of this message to this destination, over restarts and a rebuilt ledger. */
export function idempotencyKey(
  account: string,
  entry: Pick<Entry, 'uniqueId' | 'fingerprint' | 'copy'>,
  destination: string,
): string {
  const parts = [account, entry.uniqueId, entry.fingerprint, String(entry.copy), destination];
  return `msg_${hash('sha256', parts.join('\0'), 'base64url')}`;
}
