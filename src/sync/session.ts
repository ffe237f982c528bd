/**
 * The TRANSACTION state of one session at work: deletes that are due, messages retrieved within a window while earlier ones
 * are delivered, deletes as soon as they may, and the end by QUIT. It waits for no slow destination beyond a short grace.
 */

import { Failure } from '../failure.ts';
import type { PollSummary } from '../ops/events.ts';
import type { Pop3Client } from '../pop3/client.ts';
import type { Spool } from '../store/spool.ts';
import { Deletions } from './deletions.ts';
import { newEntry } from './entry.ts';
import type { Entry } from './entry.ts';
import { Assignments } from './identity.ts';
import type { Row } from './identity.ts';
import { Load } from './load.ts';
import { decide } from './plan.ts';
import type { Action, Plan, PlanInput, Retrieval } from './plan.ts';
import { ACCOUNT_BACKOFF, backoff, RETRIEVAL_ATTEMPTS } from './retry.ts';
import { retrievalFailed } from './settle.ts';
import { deliver, recognise, shortSha } from './transfer.ts';
import type { Tally, TransferTools } from './transfer.ts';
import { redirectsOf } from './wanted.ts';
import { Window } from './window.ts';

/** Octets of one session's messages that may be on their way at a time. */
const OCTETS = 16 * 1024 * 1024;
/**
 * Messages that may be: as many as keep the destinations busy, at first by a guess. What waits longer than it must is looked at
 * by each collection of garbage.
 */
const MESSAGES = { least: 32, most: 128, step: 16 };
/** How long a session waits for destinations when there is nothing else to do. Milliseconds. */
const GRACE = 10_000;
/** After this a session retrieves nothing more: others may wait for its place, and new mail for the next listing. Milliseconds. */
const LONG = 5 * 60_000;
/** What a message whose size is not known is taken for. Octets. */
const UNKNOWN_SIZE = 64 * 1024;
/** Larger messages go to the spool. Octets. */
const IN_MEMORY = 256 * 1024;
/** A message that comes out below this part of its listed size, by more than `SHORT_BY`, is not trusted at once. */
const SHORT = 0.5;
const SHORT_BY = 1024;

/** What all sessions of this process together may hold. */
export interface Budget {
  /** Octets of messages in memory. */
  readonly memory: Window;
  /** Octets of large messages on the disk. */
  readonly spool: Window;
  /** Messages of listings that are being compared with their ledgers, each for an octet. */
  readonly listed: Window;
}

/** What one message takes, in octets. */
interface Weight {
  readonly memory: number;
  readonly spool: number;
}

export class Session {
  readonly tally: Tally = { retrieved: 0, octets: 0, delivered: 0, deferred: 0, rejected: 0, inDoubt: 0 };
  /** Deletes that QUIT has proved. */
  committed = 0;
  readonly #session: Pop3Client;
  readonly #tools: TransferTools;
  readonly #load: Load;
  readonly #spool: Spool;
  readonly #budget: Budget;
  readonly #stop: AbortSignal;
  readonly #onProgress: ((progress: PollSummary) => void) | undefined;
  readonly #deletions: Deletions;
  readonly #began: number;
  readonly #window = new Window({ messages: MESSAGES.least, octets: OCTETS });
  readonly #assigned = new Assignments();
  /** Messages on their way. */
  #running = 0;
  #whenIdle: (() => void) | undefined;
  #listed = 0;
  /** How many deliveries each destination takes at a time. */
  #parallel: ReadonlyMap<string, number> = new Map();
  #messages = MESSAGES.least;
  /** The next one waits for room. */
  #isFull = false;
  /** The destinations that messages of this session may go to. */
  #names: readonly string[] = [];
  #left = false;
  #ended = false;
  #readyLater = false;
  #unconfirmed = 0;
  #broken: unknown;

  constructor(
    session: Pop3Client,
    tools: Omit<TransferTools, 'load'>,
    spool: Spool,
    budget: Budget,
    stop: AbortSignal,
    onProgress: ((progress: PollSummary) => void) | undefined,
  ) {
    this.#session = session;
    this.#load = new Load(() => this.#feed());
    this.#tools = { ...tools, load: this.#load };
    this.#spool = spool;
    this.#budget = budget;
    this.#stop = stop;
    this.#onProgress = onProgress;
    this.#deletions = new Deletions(session, tools.hold, tools.events);
    this.#began = tools.now();
  }

  /** True if no delivery runs any more. */
  get isIdle(): boolean {
    return this.#running === 0;
  }

  /** Does what the plan says. @throws what broke the session, or the ledger */
  async work(todo: Plan, listed: number): Promise<void> {
    this.#listed = listed;
    const { destinations, policy, hold } = this.#tools;
    const { deliverTo, fallback = {} } = policy;
    this.#names = [...deliverTo, ...Object.values(fallback), ...redirectsOf(hold.ledger.openEntries())];
    this.#parallel = new Map(
      deliverTo.map((name) => [name, destinations.get(name)?.parallel ?? MESSAGES.most] as const),
    );
    // Where sessions are few, each begins as much as it may: what it has begun goes on behind it.
    const isRare = this.#loginDelay > 0 || this.#deletesOnQuit;
    this.#widen(isRare ? MESSAGES.most : 2 * Math.max(0, ...this.#parallel.values()) + MESSAGES.step);
    for (const [messageNumber, entry] of todo.known) this.#assigned.set(entry, messageNumber);
    for (const { row, entry } of todo.delete) this.#deletions.add(row.messageNumber, entry);
    // Where QUIT deletes what was retrieved, deletes that are due get a session of their own.
    const retrieve = this.#deletesOnQuit && todo.delete.length > 0 ? [] : todo.retrieve;
    this.#left = retrieve.length < todo.retrieve.length;
    let isStuck = false;
    for (const retrieval of retrieve) {
      const weight = this.#weight(retrieval);
      // All destinations have been paused since the plan was made: nothing is retrieved just to fail.
      if (this.#isPaused() || this.#isLong()) {
        this.#left = true;
        break;
      }
      if (!(await this.#room(weight))) {
        this.#left = true;
        // The grace is over already: destinations get no second one.
        isStuck = !this.#isOver() && !this.#isPaused();
        break;
      }
      this.#window.enter(weight.memory);
      this.#budget.memory.enter(weight.memory);
      if (weight.spool > 0) this.#budget.spool.enter(weight.spool);
      void this.#run(retrieval, weight);
    }
    if (!isStuck) await this.#wait();
    await this.#deletions.drained();
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** Ends the session: with QUIT, which commits the deletes, unless that would delete what is not delivered. */
  async end(retention: PlanInput['policy']['retention']): Promise<void> {
    this.#ended = true;
    if (this.#deletesOnQuit && this.tally.retrieved > 0 && (retention !== 'delete' || this.#unconfirmed > 0)) {
      this.#session.abort();
      return;
    }
    this.committed = await this.#deletions.commit(this.#tools.now());
  }

  /** Resolves when the last delivery has ended. @returns true if something became ready to be deleted after the session */
  async settled(): Promise<boolean> {
    this.#ended = true;
    const before = this.#broken;
    if (this.#running > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve));
    if (before === undefined && this.#broken !== undefined) this.#tools.events.outcomeNotWritten(this.#broken);
    return this.#readyLater;
  }

  summary(more: boolean, quarantined: number): PollSummary {
    const { retrieved, octets, delivered, deferred, rejected } = this.tally;
    const left = more || this.#left;
    return {
      listed: this.#listed,
      retrieved,
      octets,
      delivered,
      deferred,
      rejected,
      deleted: this.committed,
      quarantined,
      more: left,
    };
  }

  /** RFC 2449 §6.7: EXPIRE 0 lets a server delete at QUIT what was retrieved. */
  get #deletesOnQuit(): boolean {
    return this.#session.capabilities.expire === 0;
  }

  #weight({ row }: Retrieval): Weight {
    const size = row.size < 0 ? UNKNOWN_SIZE : row.size;
    // Larger messages lie on the disk, and take little memory.
    return { memory: Math.min(size, IN_MEMORY), spool: size > IN_MEMORY ? size : 0 };
  }

  /** Waits until a message of that weight may start. False if the session must end, or nothing has moved for the grace. */
  async #room(weight: Weight): Promise<boolean> {
    if (!this.#isOver() && this.#hasRoom(weight)) return true;
    // Full. What follows is asked for together once a part has left: one write and not one a message.
    const isReady = (): boolean => this.#isOver() || (this.#window.isRelaxed && this.#hasRoom(weight));
    this.#isFull = true;
    const waited = await this.#window.until(isReady, GRACE, this.#stop);
    this.#isFull = false;
    return !this.#isOver() && (waited || this.#hasRoom(weight));
  }

  /** Where a destination has less before it than it takes at a time, and the next message waits for room: more may be on their way. */
  #feed(): void {
    if (!this.#isFull) return;
    for (const [name, parallel] of this.#parallel)
      if (this.#load.of(name) < parallel && this.#mayTake(name)) {
        this.#widen(this.#messages + MESSAGES.step);
        return;
      }
  }

  /** Lets as many messages be on their way, within limits; never fewer than before. */
  #widen(messages: number): void {
    const wanted = Math.min(messages, MESSAGES.most);
    if (wanted <= this.#messages) return;
    this.#messages = wanted;
    this.#window.resize({ messages: wanted, octets: OCTETS });
  }

  #hasRoom(weight: Weight): boolean {
    // Where nobody but destinations that failed until now would take it, one message goes first.
    const isProbing = this.#names.every((name) => !this.#mayTake(name));
    if (isProbing || this.#window.isEmpty) return this.#window.isEmpty;
    // One message a session may always be on its way; more only within the budget of the whole process.
    const { memory, spool } = this.#budget;
    const fits = this.#window.hasRoom(weight.memory) && memory.hasRoom(weight.memory);
    return fits && (weight.spool === 0 || spool.hasRoom(weight.spool));
  }

  #mayTake(name: string): boolean {
    const { breakers } = this.#tools;
    return breakers.opensAt(name) === 0 && !breakers.isHalfOpen(name);
  }

  #isPaused(): boolean {
    return this.#names.every((name) => this.#tools.breakers.opensAt(name) > 0);
  }

  /** Never where the server wants time between logins: there a session is worth more. */
  #isLong(): boolean {
    return this.#loginDelay === 0 && this.#tools.now() >= this.#began + LONG;
  }

  /** Seconds that the server wants between logins (RFC 2449 §6.5). */
  get #loginDelay(): number {
    return this.#session.capabilities.loginDelay?.seconds ?? 0;
  }

  #isOver(): boolean {
    return this.#stop.aborted || this.#broken !== undefined || this.#session.closed;
  }

  /** Waits for what runs, as long as it goes on within the grace. */
  async #wait(): Promise<void> {
    const isReady = (): boolean => this.#running === 0 || this.#broken !== undefined;
    await this.#window.until(isReady, GRACE, this.#tools.hardStop);
  }

  /** One message, from its retrieval to the end of its deliveries. Throws nothing: what broke is noted. */
  async #run(retrieval: Retrieval, weight: Weight): Promise<void> {
    this.#running += 1;
    try {
      await this.#transfer(retrieval);
    } catch (error) {
      this.#broken ??= error;
    }
    this.#running -= 1;
    try {
      this.#budget.memory.leave(weight.memory);
      if (weight.spool > 0) this.#budget.spool.leave(weight.spool);
      this.#window.leave(weight.memory);
      this.#onProgress?.(this.summary(false, 0));
    } finally {
      if (this.#running === 0) this.#whenIdle?.();
    }
  }

  async #transfer(retrieval: Retrieval): Promise<void> {
    const { row } = retrieval;
    const { hold, policy, now, breakers } = this.#tools;
    const receiver = this.#spool.receive();
    let octets: number;
    try {
      octets = await this.#session.retrieve(row.messageNumber, receiver);
    } catch (error) {
      await receiver.discard();
      if (this.#session.closed || !(error instanceof Failure) || error.scope !== 'message') throw error;
      await this.#notRetrieved(retrieval, error.said ?? error.message);
      return;
    }
    const message = await receiver.finish();
    this.#unconfirmed += 1;
    try {
      this.tally.retrieved += 1;
      this.tally.octets += octets;
      if (this.#isSuspicious(retrieval, octets, message.bodySha256)) {
        await this.#notRetrieved(
          retrieval,
          `the server gave ${octets} of ${row.size} octets`,
          shortSha(message.bodySha256),
        );
        return;
      }
      const { before, entry } = recognise(retrieval, message, this.#tools, this.#assigned);
      const after = await deliver(before, entry, message, this.#tools, this.tally);
      const decided = (about: Entry): Action =>
        decide(about, {
          policy,
          now: now(),
          opensAt: (name) => breakers.opensAt(name),
          inFlight: (about, name) => hold.inFlight(about, name),
        });
      let action = decided(after);
      if (action.do === 'put') {
        await hold.ledger.put(after, action.entry);
        action = decided(action.entry);
      }
      if (action.do !== 'delete') await hold.ledger.flushed();
      else if (this.#ended || this.#session.closed) {
        await hold.ledger.flushed();
        this.#unconfirmed -= 1;
        this.#readyLater = true;
      } else {
        this.#unconfirmed -= 1;
        // Writes that it is to be deleted, and with that what came of its deliveries.
        this.#deletions.add(row.messageNumber, action.entry);
      }
    } finally {
      await message.release();
    }
  }

  /** Some servers answer +OK and give a piece of a message whose file went away. Three times the same piece is believed. */
  #isSuspicious({ row, entry }: Retrieval, octets: number, bodySha256: string): boolean {
    if (row.size < 0 || octets >= row.size * SHORT || row.size - octets <= SHORT_BY) return false;
    return !(entry && entry.sha === shortSha(bodySha256) && entry.retrieval.failures >= 2);
  }

  async #notRetrieved({ row, entry }: Retrieval, said: string, sha = ''): Promise<void> {
    const { hold, events, now, random } = this.#tools;
    const before = entry ?? this.#failedBefore(row);
    const base = before ?? { ...newEntry(row.uniqueId, row.size, now()), copy: this.#namelessOf(row).length };
    const failures = base.retrieval.failures + 1;
    const next = now() + backoff(ACCOUNT_BACKOFF, failures, random());
    const permanent = failures >= RETRIEVAL_ATTEMPTS;
    const after = retrievalFailed({ ...base, sha: sha || base.sha }, said, next, permanent);
    const fields = { uniqueId: row.uniqueId, size: row.size };
    if (permanent) events.quarantined(fields, after.reason);
    else events.retrievalFailed(fields, said, next);
    const at = now();
    hold.ledger.record({ event: 'retrievalFailed', uniqueId: row.uniqueId, said, at });
    if (permanent) hold.ledger.record({ event: 'quarantined', uniqueId: row.uniqueId, reason: after.reason, at });
    await hold.ledger.put(before, after);
  }

  /** The entry of a message that is not in doubt but for its failed retrievals. */
  #failedBefore(row: Row): Entry | undefined {
    return this.#namelessOf(row).find(({ state, size }) => state === 'open' && size === row.size);
  }

  #namelessOf({ uniqueId }: Row): Entry[] {
    return this.#tools.hold.ledger.group(uniqueId).filter(({ fingerprint }) => fingerprint === '');
  }
}
