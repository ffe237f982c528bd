/**
 * The composition root: builds, starts and stops everything in order, and is the only place that wires parts together.
 * `openEngine` is what polls need; `Worker` adds the queue and the schedules.
 */

import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { maildropOf, serverOf, sharedMaildrops } from './config/maildrop.ts';
import type { AccountConfig, Config } from './config/types.ts';
import { loadDestinations, openDestination } from './delivery/open.ts';
import { Failure, reasonOf } from './failure.ts';
import { Generations } from './generations.ts';
import type { ProcessEvents } from './ops/events.ts';
import { Pop3Client } from './pop3/client.ts';
import type { Remembered } from './pop3/capabilities.ts';
import { sharedLimit, Slots } from './queue/slots.ts';
import type { Place, Slot } from './queue/slots.ts';
import { Breakers } from './store/breakers.ts';
import { joinEmbeddedRedis } from './store/embedded.ts';
import type { EmbeddedRedis } from './store/embedded.ts';
import { Markers } from './store/markers.ts';
import { inspectRedis, ledgerConnection } from './store/redis.ts';
import { unreachable } from './store/redis-error.ts';
import type { RedisAddress } from './store/redis.ts';
import { Spool } from './store/spool.ts';
import { Holds } from './sync/hold.ts';
import type { PollTools } from './sync/poll.ts';
import { DELIVERY_BACKOFF } from './sync/retry.ts';
import type { Backoff } from './sync/retry.ts';
import { Window } from './sync/window.ts';
import type { WindowLimits } from './sync/window.ts';

/** How long what is in flight may take after a signal to stop, before it is cut off. Milliseconds. */
const STOP_GRACE = 25_000;
/** Listed messages that are compared with ledgers at a time, some 1.5 KB each, while further accounts wait. One listing always is. */
const LISTED = 10_000;

export interface Store {
  readonly redis: Redis;
  readonly address: RedisAddress;
  close(): Promise<void>;
}

/**
 * Connects to the Redis of the config, starting the embedded one if need be.
 * @throws Failure (scope process) if it is out of reach, or unfit to hold a ledger
 */
export async function openStore(config: Config, events: ProcessEvents): Promise<Store> {
  let embedded: EmbeddedRedis | undefined;
  let address: RedisAddress;
  if (config.redis.kind === 'embedded') {
    embedded = await joinEmbeddedRedis(config.dataDir);
    address = { kind: 'socket', path: embedded.socket };
  } else if (config.redis.kind === 'socket') {
    address = { kind: 'socket', path: config.redis.path };
  } else {
    address = { kind: 'url', url: await config.redis.url.reveal() };
  }
  const trouble = new RedisTrouble(events, embedded);
  const redis = ledgerConnection(address, `mailferry:${process.pid}:ledger`, (error) => trouble.noted(error));
  redis.on('ready', () => trouble.over());
  try {
    await redis.connect();
    trouble.opened();
    const findings = await inspectRedis(redis);
    for (const { fatal, message, remedy } of findings) {
      if (fatal) throw new Failure(message, { scope: 'process', permanent: true, code: 'redis.unfit', remedy });
      events.warning(message, remedy);
    }
  } catch (error) {
    trouble.close();
    redis.disconnect();
    throw error instanceof Failure ? error : unreachable(trouble.last ?? error);
  }
  return {
    redis,
    address,
    async close() {
      trouble.close();
      if (embedded) await embedded.leave(redis).catch((error: unknown) => events.failed(error));
      // A second disconnect would wait two seconds for a connection that is gone.
      else redis.disconnect();
    },
  };
}

/** Says once that Redis is away and once that it is back; brings an embedded one back. */
class RedisTrouble {
  readonly #events: ProcessEvents;
  readonly #embedded: EmbeddedRedis | undefined;
  /** The first connection's failure is thrown, not logged. */
  #isOpen = false;
  #away = false;
  #closed = false;
  #restarting = false;

  constructor(events: ProcessEvents, embedded: EmbeddedRedis | undefined) {
    this.#events = events;
    this.#embedded = embedded;
  }

  /** ioredis rejects with no more than "Connection is closed"; this says why. */
  last: Error | undefined;

  opened(): void {
    this.#isOpen = true;
  }

  noted(error: Error): void {
    this.last = error;
    if (this.#closed || !this.#isOpen) return;
    if (!this.#away)
      this.#events.redisTrouble(error.message || ('code' in error ? String(error.code) : 'connection lost'));
    this.#away = true;
    if (this.#embedded && !this.#restarting) void this.#restart(this.#embedded);
  }

  async #restart(embedded: EmbeddedRedis): Promise<void> {
    this.#restarting = true;
    try {
      await embedded.ensure();
    } catch (error) {
      this.#events.failed(error);
    } finally {
      this.#restarting = false;
    }
  }

  over(): void {
    if (this.#away) this.#events.redisBack();
    this.#away = false;
  }

  close(): void {
    this.#closed = true;
  }
}

/** What one poll runs under, from its beginning to the end of its last delivery, whatever the config becomes meanwhile. */
export interface Use {
  readonly config: Config;
  readonly tools: PollTools;
  /** What a poll of this account takes of the limits over all workers. @returns undefined if there is none free now */
  slot(account: AccountConfig): Promise<Slot | undefined>;
  /** To be called once. */
  readonly leave: () => void;
}

export interface Engine {
  /** The config that new polls run under. */
  readonly config: Config;
  readonly store: Store;
  readonly tools: PollTools;
  enter(): Use;
  /**
   * From here on polls begin under this config; those under way end under theirs.
   * @param changed destinations that are opened anew
   * @throws what opening a destination throws; then all is as before
   */
  apply(config: Config, changed: ReadonlySet<string>): void;
  /** Begins to stop: no new message, what is in flight is finished within the grace. */
  stop(): void;
  close(): Promise<void>;
}

export interface EngineOptions {
  /** How retries of deliveries are spaced; left out: from a minute to four hours. */
  readonly deliveryBackoff?: Backoff;
  /** How long a destination is paused; left out: from 15 seconds to 15 minutes. */
  readonly breakerBackoff?: Backoff;
}

/** Everything that polls need. @throws Failure if the disk or Redis cannot be used */
export async function openEngine(config: Config, events: ProcessEvents, options: EngineOptions = {}): Promise<Engine> {
  const spool = await Spool.open(config.dataDir);
  const [store] = await Promise.all([openStore(config, events), loadDestinations(config.destinations.values())]);
  const stop = new AbortController();
  const hardStop = new AbortController();
  const now = (): number => Date.now();
  const random = (): number => Math.random();
  const slots = new Slots(store.redis, { onError: (error) => events.queueTrouble(reasonOf(error)) });
  const context = { hostName: hostname(), now: () => new Date() };
  const generations: Generations = new Generations(
    config,
    (destination) =>
      openDestination(
        destination,
        context,
        sharedLimit(destination.name, slots, () => generations.current.config.limits.deliveriesPerDestination),
      ),
    (error) => events.failed(error),
  );
  const breakers = new Breakers(store.redis, {
    now,
    random,
    ...(options.breakerBackoff === undefined ? {} : { backoff: options.breakerBackoff }),
    onChange: (name, { openUntil, failures }, reason) => {
      if (openUntil > 0) events.destinationPaused(name, openUntil, failures, reason);
      else events.destinationBack(name);
    },
  });
  // Whoever starts a worker may have done what a destination waits for.
  await breakers.retry([...config.destinations.keys()]).catch((error: unknown) => events.failed(error));
  let timer: NodeJS.Timeout | undefined;
  const holds = new Holds(store.redis, hardStop.signal);
  holds.trail = config.history;
  const shared: Omit<PollTools, 'destinations'> = {
    openSession,
    holds,
    markers: new Markers(store.redis, config.dataDir),
    spool,
    budget: {
      memory: new Window(octets(config.memoryBudget)),
      spool: new Window(octets(config.spoolBudget)),
      listed: new Window(octets(LISTED)),
    },
    breakers,
    deliveryBackoff: options.deliveryBackoff ?? DELIVERY_BACKOFF,
    events,
    now,
    random,
    stop: stop.signal,
    hardStop: hardStop.signal,
  };
  return {
    get config() {
      return generations.current.config;
    },
    store,
    get tools() {
      return { ...shared, destinations: generations.current.destinations };
    },
    enter() {
      const generation = generations.enter();
      const { destinations } = generation;
      return {
        config: generation.config,
        tools: { ...shared, destinations },
        slot: async (account) => await slots.take(placesOf(account, generation.config)),
        leave: () => generations.leave(generation),
      };
    },
    apply(after, changed) {
      generations.replace(after, changed);
      breakers.retry([...changed]).catch((error: unknown) => events.failed(error));
      holds.trail = after.history;
      shared.budget.memory.resize(octets(after.memoryBudget));
      shared.budget.spool.resize(octets(after.spoolBudget));
    },
    stop() {
      stop.abort();
      timer ??= setTimeout(() => hardStop.abort(), STOP_GRACE);
    },
    async close() {
      clearTimeout(timer);
      stop.abort();
      hardStop.abort();
      breakers.close();
      await generations.close();
      slots.close();
      await store.close();
    },
  };
}

/** The places that a poll needs: one at its server if that has a limit, and its maildrop if another account opens that, too. */
function placesOf(account: AccountConfig, config: Config): Place[] {
  const { sessionsPerServer } = config.limits;
  const places =
    sessionsPerServer === undefined ? [] : [{ name: `server:${serverOf(account)}`, most: sessionsPerServer }];
  const shared = sharedOf.get(config) ?? sharedMaildrops(config.accounts.values());
  sharedOf.set(config, shared);
  const maildrop = maildropOf(account);
  return shared.has(maildrop) ? [...places, { name: `maildrop:${maildrop}`, most: 1 }] : places;
}
const sharedOf = new WeakMap<Config, ReadonlyMap<string, unknown>>();

/** As many messages as there are, up to so many octets. */
function octets(limit: number): WindowLimits {
  return { messages: Number.POSITIVE_INFINITY, octets: limit };
}

/** Opens a POP3 session by an account's config. @throws Pop3Error */
export async function openSession(
  account: AccountConfig,
  signal: AbortSignal,
  remembered?: Remembered,
): Promise<Pop3Client> {
  const { host, port, security, tls, user, password, accessToken, mechanism, timeout, proxy, sourceAddress } = account;
  return await Pop3Client.open({
    host,
    port,
    security,
    tls,
    user,
    timeout,
    signal,
    ...(password === undefined ? {} : { password: async () => await password.reveal() }),
    ...(accessToken === undefined ? {} : { accessToken: async () => await accessToken.reveal() }),
    ...(mechanism === undefined ? {} : { mechanism }),
    ...(remembered === undefined ? {} : { remembered }),
    ...(proxy === undefined ? {} : { proxy }),
    ...(sourceAddress === undefined ? {} : { sourceAddress }),
  });
}

/** `openEngine`, again and again until Redis is there. @returns undefined if told to stop before that */
export async function awaitEngine(
  config: Config,
  events: ProcessEvents,
  stop: AbortSignal,
): Promise<Engine | undefined> {
  for (let failures = 0; !stop.aborted; failures += 1) {
    try {
      return await openEngine(config, events);
    } catch (error) {
      if (!(error instanceof Failure) || error.permanent || error.code !== 'redis.connect') throw error;
      events.failed(error);
      await sleep(Math.min(30_000, 1000 * 2 ** failures), undefined, { signal: stop }).catch((reason: unknown) =>
        reasonOf(reason),
      );
    }
  }
  return undefined;
}
