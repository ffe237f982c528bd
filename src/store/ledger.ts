/**
 * What is known of one account's messages, durable in Redis, written by the holder of its lease alone. Writes gather while
 * one is under way and go as one script, in order: one round trip for many messages. A write that Redis did not answer
 * is sent again until it is answered, the lease is lost, or this process must end: what was confirmed must not be forgotten.
 */

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { Failure, reasonOf } from '../failure.ts';
import { NEW_ACCOUNT } from '../sync/account.ts';
import type { AccountState } from '../sync/account.ts';
import { isSame } from '../sync/entry.ts';
import type { Entry, Identity } from '../sync/entry.ts';
import type { Row } from '../sync/identity.ts';
import { isQuiet } from '../sync/plan.ts';
import type { Policy } from '../sync/plan.ts';
import { encodeTrailEvent, TRAIL_LIMITS } from '../sync/trail.ts';
import type { TrailEvent, TrailLimits } from '../sync/trail.ts';
import { Batch, line } from './batch.ts';
import { decodeGroup, encodeGroup, isSettled } from './codec.ts';
import { accountKeys } from './keys.ts';
import type { AccountKeys } from './keys.ts';
import type { Lease } from './lease.ts';
import { redisFailure } from './redis-error.ts';
import { runScript, WRITE } from './scripts.ts';

/** Operations in one script: bounds how long Redis is busy with it. */
const BATCH = 1500;
/** Unique-ids asked for in one command. */
const CHUNK = 2000;
/** Failures of one write in a row, some five minutes, before the ledger is given up. */
const ATTEMPTS = 60;
const NEVER: AbortSignal = new AbortController().signal;

/** What a listing looks like beside the ledger: the plan's input. */
export interface Comparison {
  readonly rows: readonly Row[];
  readonly quiet: number;
  readonly entries: ReadonlyMap<string, readonly Entry[]>;
}

/** The ledger cannot be written any more by this poll: everything it would have allowed is off. */
export class LedgerFailure extends Failure {
  override readonly name = 'LedgerFailure';
}

export class Ledger {
  readonly #redis: Redis;
  readonly #keys: AccountKeys;
  readonly #lease: Lease;
  readonly #open: Map<string, Entry[]>;
  /** Settled groups that the last comparison or a write since then has shown, so that they can be changed. */
  readonly #read = new Map<string, Entry[]>();
  readonly #giveUp: AbortSignal;
  readonly #trail: TrailLimits;
  #serial = 0;
  #state: AccountState;
  /** Unique-ids whose group is to be written as it is then. */
  #dirty = new Set<string>();
  /** Those that can wait until something else is written of them, or the state is. */
  readonly #staged = new Set<string>();
  #stateDirty = false;
  #events: string[] = [];
  #writing: Promise<void> | undefined;
  #next: { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void } | undefined;
  #failed: LedgerFailure | undefined;

  private constructor(
    redis: Redis,
    lease: Lease,
    open: Map<string, Entry[]>,
    state: AccountState,
    giveUp: AbortSignal,
    trail: TrailLimits,
  ) {
    this.#trail = trail;
    this.#redis = redis;
    this.#keys = accountKeys(lease.account);
    this.#lease = lease;
    this.#open = open;
    this.#state = state;
    this.#giveUp = giveUp;
  }

  /**
   * Reads how the account stands and every entry that needs something.
   * @param giveUp aborted when no write may be waited for any more
   * @param trail what is kept of the audit trail
   * @throws if Redis is out of reach or an entry unreadable
   */
  static async open(
    redis: Redis,
    lease: Lease,
    giveUp: AbortSignal = NEVER,
    trail: TrailLimits = TRAIL_LIMITS,
  ): Promise<Ledger> {
    const keys = accountKeys(lease.account);
    const [state, open] = await Promise.all([redis.hget(keys.state, 'account'), redis.hgetall(keys.open)]);
    const groups = Object.entries(open).map(([uniqueId, value]): [string, Entry[]] => [
      uniqueId,
      decodeGroup(uniqueId, value),
    ]);
    return new Ledger(redis, lease, new Map(groups), decodeState(state), giveUp, trail);
  }

  get state(): AccountState {
    return this.#state;
  }

  /** True once a write has failed for good: nothing will be written here any more. */
  get isBroken(): boolean {
    return this.#failed !== undefined;
  }

  /** Every entry that needs something, in no order. */
  *openEntries(): Iterable<Entry> {
    for (const group of this.#open.values()) yield* group;
  }

  /** The entries of one unique-id, as far as they were read. */
  group(uniqueId: string): readonly Entry[] {
    return this.#open.get(uniqueId) ?? this.#read.get(uniqueId) ?? [];
  }

  /** The entry as it is now. */
  get(identity: Identity): Entry | undefined {
    return this.group(identity.uniqueId).find((entry) => isSame(entry, identity));
  }

  /**
   * Sets a complete listing beside the ledger, in bounded pieces. Settled messages that need nothing are only counted.
   * @throws Failure if Redis is out of reach
   */
  async compare(listing: readonly Row[], policy: Policy, now: number): Promise<Comparison> {
    // What an earlier comparison read is read anew; what settles from here on is put there by its write.
    await this.flushed();
    this.#unread();
    const twins = twinIds(listing);
    const rows: Row[] = [];
    let quiet = 0;
    let settled = 0;
    const listed = new Set<string>();
    // Where what is delivered is deleted, nothing is settled: then nothing need be asked for.
    const known = await this.#redis.hlen(this.#keys.settled);
    for (let start = 0; start < listing.length; start += CHUNK) {
      const chunk = listing.slice(start, start + CHUNK);
      const asked = known === 0 ? [] : chunk.filter((row) => !this.#open.has(row.uniqueId));
      const values =
        asked.length > 0 ? await this.#redis.hmget(this.#keys.settled, ...asked.map((row) => row.uniqueId)) : [];
      const found = new Map(asked.map((row, index) => [row, values[index] ?? null]));
      for (const row of chunk) {
        const value = found.get(row) ?? null;
        // Deliveries of an earlier session may have settled a message meanwhile: then what they wrote is newer.
        if (value === null || this.#read.has(row.uniqueId)) {
          rows.push(row);
          continue;
        }
        if (!listed.has(row.uniqueId)) settled += 1;
        if (twins.has(row.uniqueId)) listed.add(row.uniqueId);
        const group = decodeGroup(row.uniqueId, value);
        const [only] = group;
        if (only && group.length === 1 && !twins.has(row.uniqueId) && isQuiet(only, row.size, policy, now)) quiet += 1;
        else {
          rows.push(row);
          this.#read.set(row.uniqueId, group);
        }
      }
    }
    if (known > settled) await this.#readAbsent(new Set(listing.map((row) => row.uniqueId)));
    return { rows, quiet, entries: new Map([...this.#open, ...this.#read]) };
  }

  /** True if nothing is known of these unique-ids. @throws if Redis is out of reach */
  async knowsNone(rows: readonly Row[]): Promise<boolean> {
    await this.flushed();
    this.#unread();
    if (rows.some((row) => this.#open.has(row.uniqueId))) return false;
    const values = await this.#redis.hmget(this.#keys.settled, ...rows.map((row) => row.uniqueId));
    return values.every((value) => value === null);
  }

  /** Forgets what was read, but what is still to be written: its write takes it from there. */
  #unread(): void {
    for (const uniqueId of this.#read.keys()) if (!this.#dirty.has(uniqueId)) this.#read.delete(uniqueId);
  }

  async #readAbsent(listed: ReadonlySet<string>): Promise<void> {
    let cursor = '0';
    do {
      const [next, flat] = await this.#redis.hscan(this.#keys.settled, cursor, 'COUNT', CHUNK);
      cursor = next;
      for (let index = 0; index + 1 < flat.length; index += 2) {
        const uniqueId = flat[index] as string;
        if (listed.has(uniqueId) || this.#open.has(uniqueId) || this.#read.has(uniqueId)) continue;
        this.#read.set(uniqueId, decodeGroup(uniqueId, flat[index + 1] as string));
      }
    } while (cursor !== '0');
  }

  /** Replaces an entry (or adds one, without `before`). Resolves when it is durable. */
  put(before: Entry | undefined, after: Entry): Promise<void> {
    this.#replace(before, after);
    this.#dirty.add(after.uniqueId);
    return this.flushed();
  }

  /** As `put`, for what another write of the same entry follows at once: it need not be durable before that. */
  stage(before: Entry | undefined, after: Entry): void {
    this.#replace(before, after);
    this.#staged.add(after.uniqueId);
  }

  /** Removes an entry. Resolves when that is durable. */
  async forget(entry: Entry): Promise<void> {
    this.#setGroup(
      entry.uniqueId,
      this.group(entry.uniqueId).filter((each) => !isSame(each, entry)),
    );
    this.#dirty.add(entry.uniqueId);
    await this.flushed();
  }

  /** Changes how the account stands. Resolves when it is durable. */
  async saveState(changes: Partial<AccountState>): Promise<void> {
    this.#state = { ...this.#state, ...changes };
    this.#stateDirty = true;
    for (const uniqueId of this.#staged) this.#dirty.add(uniqueId);
    await this.flushed();
  }

  /** Adds to the trail, with the next write. */
  record(event: TrailEvent): void {
    this.#events.push(line(encodeTrailEvent(event)));
  }

  /** Resolves when everything so far is durable. @throws LedgerFailure if it cannot become so */
  flushed(): Promise<void> {
    if (this.#failed) return Promise.reject(this.#failed);
    if (this.#dirty.size === 0 && !this.#stateDirty && this.#events.length === 0) return this.#written();
    // One promise for all that goes with one write.
    this.#next ??= Promise.withResolvers<void>();
    const { promise } = this.#next;
    this.#writing ??= this.#writeAll();
    return promise;
  }

  async #written(): Promise<void> {
    await this.#writing;
    // What was under way may have failed just now.
    if (this.#failed) throw this.#failed;
  }

  #replace(before: Entry | undefined, after: Entry): void {
    const group = this.group(after.uniqueId);
    // No two entries of a group have one key: what would be the second replaces the first.
    const replaced = before ?? after;
    const at = group.findIndex((entry) => isSame(entry, replaced));
    this.#setGroup(after.uniqueId, at < 0 ? [...group, after] : group.with(at, after));
  }

  #setGroup(uniqueId: string, group: Entry[]): void {
    const isOpen = !group.every(isSettled);
    if (isOpen) this.#open.set(uniqueId, group);
    else this.#open.delete(uniqueId);
    if (isOpen || group.length === 0) this.#read.delete(uniqueId);
    else this.#read.set(uniqueId, group);
  }

  /** What is to be written now. Of a group that changed more than once, its last form alone. */
  #take(): Batch[] {
    let batch = new Batch();
    const batches = [batch];
    const room = (): Batch => {
      if (batch.size >= BATCH) batches.push((batch = new Batch()));
      return batch;
    };
    for (const uniqueId of this.#dirty) {
      this.#staged.delete(uniqueId);
      const open = this.#open.get(uniqueId);
      const settled = open ? undefined : this.#read.get(uniqueId);
      if (open) room().open.push(line(uniqueId), line(encodeGroup(open)));
      else if (settled) room().settled.push(line(uniqueId), line(encodeGroup(settled)));
      else room().gone.push(line(uniqueId));
    }
    if (this.#stateDirty) batch.state = JSON.stringify(this.#state);
    for (const event of this.#events) room().events.push(event);
    this.#dirty = new Set();
    this.#stateDirty = false;
    this.#events = [];
    return batches;
  }

  async #writeAll(): Promise<void> {
    // A turn later, so that all that is put at one time goes as one.
    await nextTurn();
    while (this.#next !== undefined) {
      const { resolve, reject } = this.#next;
      this.#next = undefined;
      try {
        for (const batch of this.#take()) await this.#write(batch);
        resolve();
      } catch (error) {
        this.#failed = asLedgerFailure(error);
        reject(this.#failed);
        (this.#next as { reject: (reason: unknown) => void } | undefined)?.reject(this.#failed);
        this.#next = undefined;
      }
    }
    this.#writing = undefined;
  }

  async #write(batch: Batch): Promise<void> {
    const { fence, open, settled, state, trail } = this.#keys;
    this.#serial += 1;
    const { events, keep } = this.#trail;
    const keys = [fence, open, settled, state, trail];
    const parameters = [...keys, this.#lease.token, this.#serial, events, keep, ...batch.parameters()];
    for (let failures = 1; ; failures += 1) {
      try {
        await unlessAborted(runScript(this.#redis, WRITE, parameters), this.#giveUp);
        return;
      } catch (error) {
        if (reasonOf(error).startsWith('FENCED')) this.#lease.markLost();
        if (this.#lease.lost.aborted || this.#giveUp.aborted || failures >= ATTEMPTS) throw error;
        await unlessAborted(sleep(Math.min(5000, 50 * 2 ** failures)), this.#giveUp);
      }
    }
  }
}

/** @throws at once if the signal aborts before the work has ended */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = (): void => reject(new Error('this process ends before Redis has answered'));
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

function asLedgerFailure(error: unknown): LedgerFailure {
  const remedy = redisFailure(error)?.remedy;
  const fenced = reasonOf(error).startsWith('FENCED');
  return new LedgerFailure(
    fenced
      ? 'Another worker has taken this account over, or the ledger is gone'
      : `Redis does not take the ledger's writes: ${reasonOf(error)}`,
    {
      scope: fenced ? 'account' : 'process',
      code: fenced ? 'ledger.fenced' : 'ledger.write',
      cause: error,
      ...(remedy === undefined ? {} : { remedy }),
    },
  );
}

/** How these accounts stand, read without a lease. */
export async function readStates(redis: Redis, accounts: readonly string[]): Promise<AccountState[]> {
  return await Promise.all(
    accounts.map(async (account) => decodeState(await redis.hget(accountKeys(account).state, 'account'))),
  );
}

/** Every entry of an account, read without a lease; in no order. */
export async function* readEntries(redis: Redis, account: string): AsyncIterable<Entry> {
  const keys = accountKeys(account);
  for (const key of [keys.open, keys.settled]) {
    let cursor = '0';
    do {
      const [next, flat] = await redis.hscan(key, cursor, 'COUNT', CHUNK);
      cursor = next;
      for (let index = 0; index + 1 < flat.length; index += 2) {
        yield* decodeGroup(flat[index] as string, flat[index + 1] as string);
      }
    } while (cursor !== '0');
  }
}

function decodeState(value: string | null): AccountState {
  return value === null ? NEW_ACCOUNT : { ...NEW_ACCOUNT, ...(JSON.parse(value) as Partial<AccountState>) };
}

/** Unique-ids that stand more than once in a listing. */
function twinIds(listing: readonly Row[]): Set<string> {
  const seen = new Set<string>();
  const twins = new Set<string>();
  for (const { uniqueId } of listing) {
    if (seen.has(uniqueId)) twins.add(uniqueId);
    else seen.add(uniqueId);
  }
  return twins;
}
