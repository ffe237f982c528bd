/** What an attempt's outcome makes of an entry. Pure: the poll writes the result before anything follows from it. */

import type { Outcome } from '../delivery/destination.ts';
import { newDelivery, step, withDelivery } from './entry.ts';
import type { DeliveryRecord, Entry, RecipientRecord } from './entry.ts';
import { afterDelivery } from './retry.ts';
import type { Backoff } from './retry.ts';
import { verdictOf, wantedBy } from './wanted.ts';
import type { Wants } from './wanted.ts';

export interface SettlePolicy extends Wants {
  readonly retention: 'delete' | 'keep' | { readonly deleteAfter: number };
  readonly giveUpAfter: number;
  readonly backoff: Backoff;
}

/**
 * The entry after one attempt at one destination.
 * @param now milliseconds since 1970
 * @param random in [0, 1)
 */
export function settle(
  entry: Entry,
  destination: string,
  outcome: Outcome,
  policy: SettlePolicy,
  now: number,
  random: number,
): Entry {
  const before = entry.deliveries[destination];
  const recipients: Readonly<Record<string, RecipientRecord>> = { ...before?.recipients, ...outcome.recipients };
  const kind = overall(outcome, before?.recipients ?? {});
  const attempt = before?.attempt ?? 1;
  const base: DeliveryRecord = {
    state: 'confirmed',
    attempt,
    at: now,
    next: 0,
    since: before?.since || now,
    inDoubt: (before?.inDoubt ?? 0) + (kind === 'inDoubt' ? 1 : 0),
    said: outcome.said,
    recipients,
  };
  if (kind === 'confirmed') return conclude(withDelivery(entry, destination, base), policy);
  const verdict = afterDelivery(
    {
      kind,
      ...(outcome.retryAfter === undefined ? {} : { retryAfter: outcome.retryAfter }),
      ...(outcome.needsPerson === undefined ? {} : { needsPerson: outcome.needsPerson }),
    },
    { attempt, since: base.since, giveUpAfter: policy.giveUpAfter, backoff: policy.backoff },
    now,
    random,
  );
  if (verdict.next === 'retry') {
    // An optional destination has been tried with this, and holds nothing up.
    return conclude(withDelivery(entry, destination, { ...base, state: 'deferred', next: verdict.at }), policy);
  }
  const said = verdict.next === 'giveUp' ? `given up: ${outcome.said}` : outcome.said;
  return conclude(withDelivery(entry, destination, { ...base, state: 'rejected', said }), policy);
}

/** The entry once nothing is left to try: confirmed (or kept) if all have confirmed, quarantined if one has rejected. */
export function conclude(
  entry: Entry,
  policy: Wants & Pick<SettlePolicy, 'retention'>,
  paused: readonly string[] = [],
): Entry {
  if (entry.state !== 'open') return entry;
  const verdict = verdictOf(entry, policy, paused);
  if (verdict === 'open') return entry;
  if (verdict === 'confirmed') {
    const confirmed = step(entry, 'confirmed');
    return policy.retention === 'delete' ? confirmed : step(confirmed, 'kept');
  }
  const rejected = wantedBy(entry, policy).filter((name) => entry.deliveries[name]?.state === 'rejected');
  return step(entry, 'quarantined', {
    reason: rejected.map((name) => `${name}: ${entry.deliveries[name]?.said ?? ''}`).join('; '),
  });
}

/** An attempt that never began: the worker was told to stop before anything was sent. */
export function withdraw(entry: Entry, destination: string, now: number): Entry {
  const before = entry.deliveries[destination];
  if (before?.state !== 'started') return entry;
  return withDelivery(entry, destination, {
    ...before,
    state: 'deferred',
    attempt: before.attempt - 1,
    at: now,
    next: now,
    since: before.attempt > 1 ? before.since : 0,
  });
}

/** The entry after its retrieval has failed. @param permanent true once a person is needed */
export function retrievalFailed(entry: Entry, said: string, next: number, permanent: boolean): Entry {
  const after = { ...entry, reason: said, retrieval: { failures: entry.retrieval.failures + 1, next } };
  return permanent ? step(after, 'quarantined', { reason: `cannot be retrieved: ${said}` }) : after;
}

/** A quarantined entry as `retry` leaves it: everything that was rejected is due at once. */
export function released(entry: Entry): Entry {
  const deliveries = Object.fromEntries(
    Object.entries(entry.deliveries).map(([name, record]) => [
      name,
      // What was under way when we died stays so: its next attempt is one in doubt.
      // What a person sent elsewhere is not asked again either.
      record.state === 'confirmed' || record.state === 'waived'
        ? record
        : record.state === 'started'
          ? { ...record, since: 0 }
          : dueAgain(record),
    ]),
  );
  return step({ ...entry, deliveries }, 'open', { reason: '', retrieval: { failures: 0, next: 0 } });
}

/**
 * A quarantined entry that a person sends to another destination, in place of those of the account that do not have it.
 * @param wanted the destinations it was meant for
 */
export function redirected(entry: Entry, wanted: readonly string[], destination: string, now: number): Entry {
  const fresh = newDelivery(now);
  const deliveries: Record<string, DeliveryRecord> = {};
  for (const name of new Set([...wanted, ...Object.keys(entry.deliveries)])) {
    const record = entry.deliveries[name];
    deliveries[name] = record?.state === 'confirmed' ? record : { ...(record ?? fresh), state: 'waived', next: 0 };
  }
  const before = entry.deliveries[destination];
  // Who has it already does not get it again.
  if (before?.state === 'confirmed') deliveries[destination] = before;
  else if (before) deliveries[destination] = dueAgain(before);
  else deliveries[destination] = fresh;
  return step({ ...entry, deliveries }, 'open', { reason: '', retrieval: { failures: 0, next: 0 } });
}

/** As if never tried, but for what it has confirmed, and the number of the attempt. */
function dueAgain(record: DeliveryRecord): DeliveryRecord {
  return { ...record, state: 'deferred', next: 0, since: 0, recipients: confirmedOnly(record) };
}

function confirmedOnly({ recipients }: DeliveryRecord): Record<string, RecipientRecord> {
  return Object.fromEntries(Object.entries(recipients).filter(([, recipient]) => recipient.kind === 'confirmed'));
}

/** Over the recipients of this attempt, and those that were settled before; others are not wanted any more. */
function overall(outcome: Outcome, before: Readonly<Record<string, RecipientRecord>>): Outcome['kind'] {
  // An attempt that did not get as far as recipients says nothing of any.
  if (outcome.recipients === undefined) return outcome.kind;
  const settled = Object.entries(before).filter(([address]) => outcome.recipients?.[address] === undefined);
  const kinds = new Set<Outcome['kind']>([
    ...Object.values(outcome.recipients).map(({ kind }) => kind),
    ...settled.map(([, { kind }]) => kind).filter((kind) => kind === 'confirmed' || kind === 'rejected'),
  ]);
  if (kinds.size === 0) return outcome.kind;
  if (kinds.has('inDoubt')) return 'inDoubt';
  if (kinds.has('deferred')) return 'deferred';
  return kinds.has('rejected') ? 'rejected' : 'confirmed';
}
