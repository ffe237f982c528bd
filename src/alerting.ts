/**
 * Alerts, wired: how accounts and destinations stand, and the destinations that alerts go to. Those are opened for an alert
 * alone, so that mail which waits for its turn holds up none; their pauses count for alerts as for mail.
 */

import { hostname } from 'node:os';
import { Readable } from 'node:stream';
import { createHash } from 'node:crypto';
import type { Engine } from './app.ts';
import type { Config, DestinationConfig } from './config/types.ts';
import { isAddress } from './config/fields.ts';
import type { Delivery, Outcome } from './delivery/destination.ts';
import { openDestination } from './delivery/open.ts';
import { endOfHeader } from './mail/header.ts';
import type { StoredMessage } from './mail/message.ts';
import type { Facts } from './ops/alerts.ts';
import { messageOf } from './ops/alerts-message.ts';
import type { Alert } from './ops/alerts-message.ts';
import { Alerts } from './ops/alerts-watch.ts';
import type { ProcessEvents } from './ops/events.ts';
import { readStates } from './store/ledger.ts';
import { signOf } from './sync/retry.ts';

/** What alerts are called where mail has the name of its account. */
const ACCOUNT = 'mailferry';

/** Alerts by the engine's config, as it is at each moment. Nothing happens before `start`. */
export function openAlerts(engine: Engine, events: ProcessEvents): Alerts {
  return new Alerts({
    redis: engine.store.redis,
    events,
    hostName: hostname(),
    now: engine.tools.now,
    settings: () => engine.config.alerts,
    facts: async () => await factsOf(engine),
    deliver: async (alert, name, attempt, signal) => await deliver(engine, alert, name, attempt, signal),
  });
}

async function factsOf({ config, store, tools }: Engine): Promise<Facts> {
  const names = [...config.accounts.keys()];
  const states = await readStates(store.redis, names);
  // A destination that gets nothing but alerts is nobody's trouble.
  const used = [...config.destinations.keys()].filter((name) => isUsed(config, name));
  await tools.breakers.refresh(used);
  return {
    accounts: names.map((name, index) => ({
      name,
      trouble: states[index]?.trouble,
      quarantined: states[index]?.counts.quarantined ?? 0,
    })),
    destinations: used.map((name) => {
      const { openUntil, since = 0, needsPerson = false, gone = false, said = '' } = tools.breakers.of(name);
      return { name, pausedSince: openUntil > 0 ? since : 0, needsPerson, isGone: gone, said };
    }),
  };
}

function isUsed({ accounts }: Config, name: string): boolean {
  return [...accounts.values()].some(
    ({ deliverTo, fallback }) => deliverTo.includes(name) || Object.values(fallback).includes(name),
  );
}

async function deliver(
  { config, tools }: Engine,
  alert: Alert,
  name: string,
  attempt: number,
  signal: AbortSignal,
): Promise<Outcome | undefined> {
  const options = config.destinations.get(name);
  if (!options) return { kind: 'rejected', said: 'the config has no such destination', scope: 'message' };
  const { breakers } = tools;
  await breakers.refresh([name]);
  const pass = await breakers.enter(name);
  if (!pass) return undefined;
  const hostName = hostname();
  const destination = openDestination(ownMail(options), { hostName, now: () => new Date(tools.now()) });
  try {
    const from = config.alerts?.from ?? addressOf(options) ?? `mailferry@${hostName}`;
    const octets = messageOf(alert, from, 'to' in options ? options.to : [], hostName);
    const outcome = await destination.deliver(deliveryOf(alert, octets, attempt, signal));
    if (signal.aborted) await breakers.cancel(pass);
    else await breakers.end(pass, signOf(outcome), outcome.said);
    return outcome;
  } catch (error) {
    await breakers.cancel(pass);
    throw error;
  } finally {
    await destination.close();
  }
}

/** The destination for mail of our own: a null reverse-path, as none is named in it, and recipients of the config alone. */
function ownMail(options: DestinationConfig): DestinationConfig {
  if (options.type !== 'smtp' && options.type !== 'lmtp') return options;
  const { multidrop: _, ...rest } = options;
  const own = { ...rest, from: { kind: 'original' } as const };
  if (own.type === 'lmtp') return own;
  const { attachFrom: __, ...plain } = own;
  return plain;
}

function addressOf(options: DestinationConfig): string | undefined {
  if ('from' in options && options.from.kind === 'address') return options.from.address;
  const user = 'auth' in options && options.auth !== undefined && 'user' in options.auth ? options.auth.user : '';
  return isAddress(user) ? user : undefined;
}

function deliveryOf(alert: Alert, octets: Buffer, attempt: number, signal: AbortSignal): Delivery {
  return {
    message: stored(octets),
    account: ACCOUNT,
    uniqueId: alert.id,
    idempotencyKey: `alert_${alert.id}`,
    attempt,
    firstSeen: new Date(alert.at),
    settled: new Set(),
    signal,
  };
}

function stored(octets: Buffer): StoredMessage {
  const end = endOfHeader(octets);
  const sha256 = (part: Buffer): string => createHash('sha256').update(part).digest('hex');
  return {
    size: octets.length,
    sha256: sha256(octets),
    bodySha256: sha256(octets.subarray(end)),
    header: octets.subarray(0, end),
    bytes: octets,
    open: () => Readable.from([octets]),
    release: async () => undefined,
  };
}
