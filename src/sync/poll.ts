/**
 * One visit to one account, and the one place that knows the order of its steps: hold, session, listing, plan, retrieve,
 * deliver, confirm, delete, commit, forget. Whatever fails, what is durable by then is true, and nothing else is assumed.
 */

import type { AccountConfig } from '../config/types.ts';
import type { Destination } from '../delivery/destination.ts';
import { Failure } from '../failure.ts';
import { asFailure } from '../ops/events.ts';
import type { AccountEvents, PollSummary, ProcessEvents } from '../ops/events.ts';
import type { Remembered } from '../pop3/capabilities.ts';
import type { Pop3Client } from '../pop3/client.ts';
import type { Breakers } from '../store/breakers.ts';
import type { Markers } from '../store/markers.ts';
import { redisFailure } from '../store/redis-error.ts';
import type { Spool } from '../store/spool.ts';
import type { AccountState, Trouble } from './account.ts';
import { learned, remembered } from './acquaintance.ts';
import type { Entry } from './entry.ts';
import type { Hold, Holds } from './hold.ts';
import { decide, mayBeIdle, plan } from './plan.ts';
import type { Action, Plan, PlanInput } from './plan.ts';
import { planEvents } from './plan-events.ts';
import { earlier } from './retry.ts';
import type { Backoff } from './retry.ts';
import { Session } from './session.ts';
import type { Budget } from './session.ts';
import { glance, identify, survey } from './survey.ts';
import type { Survey } from './survey.ts';
import type { TransferTools } from './transfer.ts';
import { troubleOf } from './trouble.ts';
import { redirectsOf, waitingOf } from './wanted.ts';

/** When what is due already, and was not done, is tried again. Milliseconds. */
const SOON = 5000;
/** How long the plans of other accounts are waited for while none gets ready. Milliseconds. */
const PLANNED = 10_000;

export interface PollTools {
  readonly openSession: (account: AccountConfig, signal: AbortSignal, remembered?: Remembered) => Promise<Pop3Client>;
  readonly holds: Holds;
  readonly markers: Markers;
  readonly spool: Spool;
  readonly budget: Budget;
  readonly breakers: Breakers;
  readonly destinations: ReadonlyMap<string, Destination>;
  readonly deliveryBackoff: Backoff;
  readonly events: ProcessEvents;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly random: () => number;
  /** Aborted when no new message may be begun: what is in flight is finished, then QUIT. */
  readonly stop: AbortSignal;
  /** Aborted when even that must end. */
  readonly hardStop: AbortSignal;
}

export interface PollOptions {
  /** Polls although the account is held off, because a person asked for it. */
  readonly force?: boolean;
  /** Makes the plan and changes nothing. */
  readonly dryRun?: boolean;
  readonly onProgress?: (progress: PollSummary) => void;
}

export type PollReport =
  /** Somebody polls it already. */
  | { readonly outcome: 'busy' }
  /** It is held off after trouble, or at the server's wish. */
  | { readonly outcome: 'held'; readonly until: number; readonly trouble: Trouble | undefined }
  | { readonly outcome: 'planned'; readonly plan: Plan }
  | {
      readonly outcome: 'done';
      readonly summary: PollSummary;
      /** When to come back before the schedule says so; 0 for no reason to. */
      readonly next: number;
      /** Deliveries that outlive the session; resolves true if they made something ready to be deleted. */
      readonly background: Promise<boolean> | undefined;
    }
  | {
      readonly outcome: 'failed';
      readonly failure: Failure;
      readonly trouble: Trouble;
      readonly background: Promise<boolean> | undefined;
    };

/** Polls one account once. Throws nothing: every failure is in the report, written down and logged. */
export async function poll(account: AccountConfig, tools: PollTools, options: PollOptions = {}): Promise<PollReport> {
  const events = tools.events.account(account.name);
  let hold: Hold | undefined;
  try {
    hold = await tools.holds.acquire(account.name);
  } catch (error) {
    const failure = redisFailure(error) ?? asFailure(error);
    const trouble = troubleOf(failure, 1, tools.now(), tools.random());
    events.pollFailed(failure, trouble.until, trouble.needsPerson);
    return { outcome: 'failed', failure, trouble, background: undefined };
  }
  if (!hold) return { outcome: 'busy' };
  const visit = new Visit(account, tools, options, hold, events);
  try {
    return await visit.run();
  } finally {
    hold.polling = false;
    await tools.holds.release(hold);
  }
}

class Visit {
  readonly #account: AccountConfig;
  readonly #tools: PollTools;
  readonly #options: PollOptions;
  readonly #hold: Hold;
  readonly #events: AccountEvents;
  readonly #began: number;

  constructor(account: AccountConfig, tools: PollTools, options: PollOptions, hold: Hold, events: AccountEvents) {
    this.#account = account;
    this.#tools = tools;
    this.#options = options;
    this.#hold = hold;
    this.#events = events;
    this.#began = tools.now();
  }

  async run(): Promise<PollReport> {
    const { state } = this.#hold.ledger;
    let session: Pop3Client | undefined;
    let transfer: Session | undefined;
    try {
      await this.#guardLedger(state);
      const until = Math.max(state.trouble?.until ?? 0, state.notBefore);
      if (until > this.#began && !this.#options.force) return { outcome: 'held', until, trouble: state.trouble };
      const others = [...Object.values(this.#account.fallback), ...redirectsOf(this.#hold.ledger.openEntries())];
      await this.#tools.breakers.refresh([...this.#account.deliverTo, ...others]);
      session = await this.#tools.openSession(
        this.#account,
        AbortSignal.any([this.#tools.hardStop, this.#hold.lease.lost]),
        remembered(state.server, this.#account, this.#began),
      );
      const maySkip =
        !this.#options.dryRun &&
        mayBeIdle(state, this.#hold.ledger.openEntries(), (entry) => this.#decide(entry), this.#began);
      const seen = maySkip ? await glance(session, state, this.#began) : undefined;
      if (seen?.kind === 'unchanged') return await this.#idle(session);
      const isGrown = seen?.kind === 'grown' && (await this.#hold.ledger.knowsNone(seen.survey.rows));
      const found = isGrown ? seen.survey : await survey(session, this.#began);
      const todo = await this.#planned(session, found, state);
      if (this.#options.dryRun) {
        // However it ends, nothing was marked.
        await session.quit().catch(() => undefined);
        return { outcome: 'planned', plan: todo };
      }
      transfer = new Session(
        session,
        this.#transferTools(),
        this.#tools.spool,
        this.#tools.budget,
        this.#tools.stop,
        this.#options.onProgress,
      );
      await transfer.work(todo, found.listing.count);
      return await this.#done(session, transfer, todo, found);
    } catch (error) {
      session?.abort();
      return await this.#failed(error, session, transfer);
    }
  }

  /** An account that was polled before must not start with an empty ledger: that would deliver all its old mail again. */
  async #guardLedger(state: AccountState): Promise<void> {
    if (state.polledSince > 0 || state.resume !== undefined) return;
    if (!(await this.#tools.markers.has(this.#account.name))) return;
    throw new Failure('This account was polled before, but its ledger is empty', {
      scope: 'account',
      permanent: true,
      code: 'ledger.lost',
      remedy:
        `Bring the lost Redis data back, or say what to do with the mail that lies on the server: ` +
        `"mailferry resume ${this.#account.name} deliver" delivers it all, "mailferry resume ${this.#account.name} skip" leaves it there.`,
    });
  }

  #decide(entry: Entry): Action {
    return decide(entry, {
      policy: this.#policy(),
      now: this.#tools.now(),
      opensAt: (name) => this.#tools.breakers.opensAt(name),
      inFlight: (entry, name) => this.#hold.inFlight(entry, name),
    });
  }

  async #idle(session: Pop3Client): Promise<PollReport> {
    const { ledger } = this.#hold;
    const notBefore = this.#notBefore(session);
    await session.quit();
    const summary = noWork(ledger.state);
    await ledger.saveState({ ...this.#success(notBefore, session) });
    this.#events.polled(summary, this.#tools.now() - this.#began);
    return { outcome: 'done', summary, next: ledger.state.next, background: undefined };
  }

  async #planned(session: Pop3Client, found: Survey, state: AccountState): Promise<Plan> {
    const { budget, hardStop } = this.#tools;
    return await budget.listed.within(found.rows.length, PLANNED, hardStop, async () => {
      const todo = await this.#plan(session, found);
      if (!this.#options.dryRun) await this.#write(todo, state);
      return todo;
    });
  }

  async #plan(session: Pop3Client, found: Survey): Promise<Plan> {
    const { state, ledger } = { state: this.#hold.ledger.state, ledger: this.#hold.ledger };
    const policy = this.#policy();
    const compared =
      found.before > 0
        ? { rows: found.rows, quiet: found.before, entries: new Map<string, Entry[]>() }
        : await ledger.compare(found.rows, policy, this.#began);
    const input: PlanInput = {
      ...compared,
      policy,
      now: this.#began,
      first: state.polledSince === 0,
      wasEmpty: state.listing.count === 0,
      evidence: found.evidence,
      opensAt: (name) => this.#tools.breakers.opensAt(name),
      inFlight: (entry, name) => this.#hold.inFlight(entry, name),
    };
    for (;;) {
      const todo = plan(input);
      if (todo.identify.length === 0) return todo;
      await Promise.all(
        todo.identify.map(async ({ messageNumber }) => {
          found.evidence.set(messageNumber, { fingerprint: await identify(session, messageNumber) });
        }),
      );
    }
  }

  /** What the plan changes in the ledger before anything is retrieved; and the mark that this account has been polled. */
  async #write(todo: Plan, state: AccountState): Promise<void> {
    const { ledger } = this.#hold;
    const now = this.#tools.now();
    for (const event of planEvents(todo, now)) ledger.record(event);
    const writes = todo.put.map(async ({ before, after }) => {
      if (after.state === 'quarantined' && before?.state !== 'quarantined')
        this.#events.quarantined({ uniqueId: after.uniqueId, size: after.size }, after.reason);
      await ledger.put(before, after);
    });
    for (const entry of todo.forget) {
      if (entry.state === 'open' && !todo.put.some(({ after }) => after.sha === entry.sha))
        this.#events.vanished({ uniqueId: entry.uniqueId });
      writes.push(ledger.forget(entry));
    }
    if (todo.unmatched > 0) this.#events.uniqueIdsChanged(todo.forget.length, todo.unmatched);
    if (state.polledSince === 0) writes.push(ledger.saveState({ polledSince: now, resume: undefined }));
    await Promise.all(writes);
    if (state.polledSince === 0) await this.#tools.markers.set(this.#account.name, now);
  }

  async #done(session: Pop3Client, transfer: Session, todo: Plan, found: Survey): Promise<PollReport> {
    const { ledger } = this.#hold;
    const notBefore = this.#notBefore(session);
    await transfer.end(this.#account.retention);
    const summary = transfer.summary(todo.more, this.#counts(transfer).quarantined);
    // A maildrop that is suddenly empty has nothing to come back for before its time.
    // What was waited for among the messages before these still is.
    const planned = found.before > 0 ? earlier(todo.next, ledger.state.next) : todo.next;
    const next = found.rows.length === 0 ? todo.next : this.#nextDue(planned);
    // What was deleted makes the listing another one: then the next poll must look.
    const listing = summary.deleted > 0 || summary.more ? { ...found.listing, complete: false } : found.listing;
    await ledger.saveState({
      ...this.#success(notBefore, session),
      listing: { ...listing, count: found.listing.count - summary.deleted },
      next,
      more: summary.more,
      counts: this.#counts(transfer),
    });
    this.#events.polled(summary, this.#tools.now() - this.#began);
    const comeBack = summary.more ? this.#tools.now() : next;
    return { outcome: 'done', summary, next: comeBack, background: this.#background(transfer) };
  }

  async #failed(error: unknown, session: Pop3Client | undefined, transfer: Session | undefined): Promise<PollReport> {
    const { ledger } = this.#hold;
    const failure = redisFailure(error) ?? asFailure(error);
    if (failure.code === 'bug') this.#events.bug(error);
    const failures = ledger.state.failures + 1;
    const trouble = troubleOf(failure, failures, this.#tools.now(), this.#tools.random(), {
      before: ledger.state.trouble,
      loginDelay: session?.capabilities.loginDelay?.seconds,
    });
    this.#events.pollFailed(failure, trouble.until, trouble.needsPerson);
    const background = transfer ? this.#background(transfer) : undefined;
    try {
      const counts = transfer ? { counts: this.#counts(transfer) } : {};
      await ledger.saveState({ lastPoll: this.#began, failures, trouble, server: undefined, ...counts });
    } catch (cause) {
      // The trouble is Redis itself, or the lease is another worker's: this report is all there is.
      if (failure.scope === 'account') this.#events.pollFailed(asFailure(cause), trouble.until, false);
    }
    return { outcome: 'failed', failure, trouble, background };
  }

  #success(notBefore: number, session: Pop3Client): Partial<AccountState> {
    const { state } = this.#hold.ledger;
    if (state.failures > 0) this.#events.recovered(state.failures);
    const server = learned(session.remember(), state.server, this.#account, this.#began);
    return {
      server,
      lastPoll: this.#began,
      lastSuccess: this.#tools.now(),
      failures: 0,
      trouble: undefined,
      notBefore,
    };
  }

  #notBefore(session: Pop3Client): number {
    const delay = session.capabilities.loginDelay?.seconds ?? 0;
    return delay > 0 ? this.#began + delay * 1000 : 0;
  }

  /** When an entry that lies on the server becomes due. What this poll could have done and did not may wait a moment. */
  #nextDue(planned: number): number {
    let next = planned;
    const soon = this.#tools.now() + SOON;
    for (const entry of this.#hold.ledger.openEntries()) {
      if (entry.absences > 0) continue;
      const action = this.#decide(entry);
      const at = action.do === 'nothing' ? action.next : action.do === 'retrieve' ? soon : 0;
      next = earlier(next, at);
    }
    return next;
  }

  #counts(transfer: Session): AccountState['counts'] {
    const { counts } = this.#hold.ledger.state;
    const { tally, committed } = transfer;
    return {
      ...waitingOf(this.#hold.ledger.openEntries(), this.#policy()),
      inDoubt: counts.inDoubt,
      delivered: counts.delivered + tally.delivered,
      deleted: counts.deleted + committed,
    };
  }

  /** Deliveries that still run keep the hold; what they confirm is deleted by the next poll. */
  #background(transfer: Session): Promise<boolean> | undefined {
    if (transfer.isIdle) return undefined;
    this.#tools.holds.share(this.#hold);
    return this.#settle(transfer);
  }

  async #settle(transfer: Session): Promise<boolean> {
    const { ledger } = this.#hold;
    try {
      const isReady = await transfer.settled();
      if (ledger.isBroken) return isReady;
      // What was deferred meanwhile has a time of its own, which the poll before could not know.
      const due = this.#nextDue(0);
      if (due === 0 || (ledger.state.next > 0 && ledger.state.next <= due)) return isReady;
      await ledger.saveState({ next: due });
      return true;
    } finally {
      await this.#tools.holds.release(this.#hold);
    }
  }

  #transferTools(): Omit<TransferTools, 'load'> {
    return {
      hold: this.#hold,
      policy: {
        ...this.#policy(),
        giveUpAfter: this.#account.giveUpAfter,
        backoff: this.#tools.deliveryBackoff,
        routes: this.#account.routes,
      },
      destinations: this.#tools.destinations,
      breakers: this.#tools.breakers,
      events: this.#events,
      now: this.#tools.now,
      random: this.#tools.random,
      hardStop: AbortSignal.any([this.#tools.hardStop, this.#hold.lease.lost]),
    };
  }

  #policy(): PlanInput['policy'] {
    const { deliverTo, routes, optional, fallback, retention, firstPoll, maxMessageSize, maxMessagesPerPoll } =
      this.#account;
    const { resume } = this.#hold.ledger.state;
    const wants = { deliverTo, routed: routes !== undefined, optional, fallback };
    return { ...wants, retention, firstPoll: resume ?? firstPoll, maxMessageSize, maxMessagesPerPoll };
  }
}

function noWork({ listing, counts: { quarantined } }: AccountState): PollSummary {
  const nothing = { retrieved: 0, octets: 0, delivered: 0, deferred: 0, rejected: 0, deleted: 0, more: false };
  return { ...nothing, listed: listing.count, quarantined };
}
