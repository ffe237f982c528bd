/**
 * Alerts at work: looks now and then, over all workers one at a time, at what there is to say, writes that down, and delivers
 * it. What cannot be delivered is tried again a few times and then given up, in the log: it never makes another alert.
 */

import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { AlertsConfig } from '../config/types.ts';
import type { Outcome } from '../delivery/destination.ts';
import { reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { whatToSay } from './alerts.ts';
import type { Facts, Said } from './alerts.ts';
import { alertOf } from './alerts-message.ts';
import type { Alert } from './alerts-message.ts';
import type { ProcessEvents } from './events.ts';

/** Hash: `said SUBJECT` -> what was said of it; `alert ID` -> one on its way. */
const ALERTS = 'mailferry:{alerts}';
/** Who looks now, or has just looked. */
const CLAIM = 'mailferry:{alerts}:look';
/** A look takes less; a worker that died amid one holds up the others for so long. Milliseconds. */
const LOOK_LIMIT = 5 * 60_000;
const DELIVERY_LIMIT = 60_000;
/** The first after a look, each further one after twice the time: some two hours in all. */
const ATTEMPTS = 8;
/** Alerts on their way at a time; the oldest is given up for a further one. */
const MOST = 20;
const LONGEST_PERIOD = 60_000;
const SHORTEST_PERIOD = 500;

/** An alert that some destinations have not got yet. */
interface Underway extends Alert {
  readonly attempts: number;
  readonly next: number;
  readonly left: readonly string[];
}

export interface AlertTools {
  readonly redis: Redis;
  readonly events: ProcessEvents;
  readonly hostName: string;
  readonly now: () => number;
  /** Of the config as it is now; undefined: nobody wants any. */
  readonly settings: () => AlertsConfig | undefined;
  readonly facts: () => Promise<Facts>;
  /** One attempt. @returns undefined if that destination is paused */
  readonly deliver: (
    alert: Alert,
    destination: string,
    attempt: number,
    signal: AbortSignal,
  ) => Promise<Outcome | undefined>;
}

export class Alerts {
  readonly #tools: AlertTools;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(tools: AlertTools) {
    this.#tools = tools;
  }

  start(): void {
    if (this.#stop.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.#lookSafely();
    }, this.#period());
  }

  /** Begins no further look; one under way ends soon. */
  async close(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#looking;
  }

  async #lookSafely(): Promise<void> {
    try {
      await this.look();
    } catch (error) {
      // Redis is away, which is said elsewhere.
      this.#tools.events.queueTrouble(reasonOf(error));
    }
    this.start();
  }

  /** Says what there is to say, if no other worker is at it. @throws if Redis is out of reach */
  async look(): Promise<void> {
    const { redis, settings } = this.#tools;
    const config = settings();
    if (!config) return;
    const claim = randomUUID();
    if ((await redis.set(CLAIM, claim, 'PX', LOOK_LIMIT, 'NX')) === null) return;
    try {
      const memory = Object.entries(await redis.hgetall(ALERTS));
      await this.#say(memory, config);
    } finally {
      // The others wait for their turn, too, so that what comes up within that time goes together.
      if ((await redis.get(CLAIM)) === claim) await redis.pexpire(CLAIM, Math.round(this.#period() * 0.9));
    }
  }

  async #say(memory: readonly [string, string][], config: AlertsConfig): Promise<void> {
    const { redis, facts, now, hostName, events } = this.#tools;
    const before = new Map(parsed<Said>(memory, 'said '));
    const time = now();
    const { wrong, over, said } = whatToSay(await facts(), before, config.after, time);
    const underway = parsed<Underway>(memory, 'alert ').map(([, alert]) => alert);
    const write = redis.multi();
    for (const [subject, entry] of said)
      if (before.get(subject) !== entry) write.hset(ALERTS, `said ${subject}`, JSON.stringify(entry));
    for (const subject of before.keys()) if (!said.has(subject)) write.hdel(ALERTS, `said ${subject}`);
    if (wrong.length + over.length > 0) {
      const alert = alertOf({ wrong, over }, hostName, time);
      events.alert(
        alert.subject,
        [...wrong, ...over].map(({ title }) => title),
      );
      underway.push({ ...alert, attempts: 0, next: 0, left: config.deliverTo });
      write.hset(ALERTS, `alert ${alert.id}`, JSON.stringify(underway.at(-1)));
    }
    // What was said is durable before it is sent: a crash may cost an alert its first attempt, and repeats none as new.
    if (write.length > 0) await write.exec();
    underway.sort((a, b) => a.at - b.at);
    for (const alert of underway.splice(0, Math.max(0, underway.length - MOST))) await this.#giveUp(alert, 'too many');
    await Promise.all(
      underway.filter(({ next }) => next <= time).map(async (alert) => await this.#send(alert, config)),
    );
  }

  async #send(alert: Underway, config: AlertsConfig): Promise<void> {
    const { redis, events, now } = this.#tools;
    const attempt = alert.attempts + 1;
    const names = alert.left.filter((name) => config.deliverTo.includes(name));
    const results = await Promise.all(
      names.map(async (name) => [name, await this.#attempt(alert, name, attempt)] as const),
    );
    const left = results.filter(([, isDone]) => !isDone).map(([name]) => name);
    if (left.length === 0) await redis.hdel(ALERTS, `alert ${alert.id}`);
    else if (this.#stop.signal.aborted) return;
    else if (attempt >= ATTEMPTS) await this.#giveUp({ ...alert, left }, `${attempt} attempts`);
    else {
      const next = now() + this.#period() * 2 ** (attempt - 1);
      await redis.hset(ALERTS, `alert ${alert.id}`, JSON.stringify({ ...alert, attempts: attempt, next, left }));
      if (left.length === config.deliverTo.length && results.every(([, isDone]) => isDone === undefined))
        events.alertHasNowhere(alert.subject, left);
    }
  }

  /** @returns true if nothing is left to do, false if it failed, undefined if the destination is paused */
  async #attempt(alert: Alert, name: string, attempt: number): Promise<boolean | undefined> {
    const { deliver, events } = this.#tools;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(DELIVERY_LIMIT)]);
    try {
      const outcome = await deliver(alert, name, attempt, signal);
      if (!outcome) return undefined;
      if (outcome.kind === 'confirmed') events.alertDelivered(alert.subject, name, outcome.said);
      else events.alertNotDelivered(alert.subject, name, outcome.said, attempt);
      return outcome.kind === 'confirmed' || outcome.kind === 'rejected';
    } catch (error) {
      events.alertNotDelivered(alert.subject, name, reasonOf(error), attempt);
      return false;
    }
  }

  async #giveUp(alert: Underway, why: string): Promise<void> {
    this.#tools.events.alertGivenUp(alert.subject, alert.left, printable(why));
    await this.#tools.redis.hdel(ALERTS, `alert ${alert.id}`);
  }

  /** How often to look: often enough for `after`. Milliseconds. */
  #period(): number {
    const after = this.#tools.settings()?.after ?? LONGEST_PERIOD;
    return Math.min(LONGEST_PERIOD, Math.max(SHORTEST_PERIOD, after / 10));
  }
}

function parsed<T>(memory: readonly [string, string][], prefix: string): [string, T][] {
  return memory
    .filter(([field]) => field.startsWith(prefix))
    .map(([field, value]) => [field.slice(prefix.length), JSON.parse(value) as T]);
}
