/** The audit trail: what happened to each message, in the order in which it was written, and its form in Redis. Pure. */

import { printable } from '../untrusted.ts';

/** What a person decided. What mailferry decides by itself is signed by nobody. */
export type TrailDecision = { readonly by: 'person' } & (
  | { readonly event: 'retried' | 'discarded' }
  | { readonly event: 'redirected'; readonly destination: string }
);

/** What may happen to a message. Times are milliseconds since 1970; words of others are cut and escaped. */
export type TrailEvent = { readonly at: number; readonly uniqueId: string } & (
  | { readonly event: 'seen'; readonly size: number }
  | { readonly event: 'retrieved'; readonly octets: number; readonly sha256: string }
  | { readonly event: 'retrievalFailed'; readonly said: string }
  | {
      readonly event: 'delivered' | 'deferred' | 'rejected' | 'inDoubt';
      readonly destination: string;
      /** The destination's own words. */
      readonly said: string;
      readonly attempt: number;
    }
  | { readonly event: 'quarantined'; readonly reason: string }
  | TrailDecision
  /** The server changed its unique-ids. Told under both. */
  | { readonly event: 'renamed'; readonly from: string; readonly to: string }
  | { readonly event: 'deleted' | 'vanished' }
);

/** What is kept of the trail of one account. */
export interface TrailLimits {
  /** At least so many of the newest events; some more may stay. */
  readonly events: number;
  /** Older ones go. Milliseconds. */
  readonly keep: number;
}

export const TRAIL_LIMITS: TrailLimits = { events: 10_000, keep: 90 * 24 * 60 * 60 * 1000 };

/** An event as one value. Words of others are made printable here once more: none may depend on who wrote them down. */
export function encodeTrailEvent(event: TrailEvent): string {
  if ('said' in event) {
    const said = printable(event.said);
    return JSON.stringify(said === event.said ? event : { ...event, said });
  }
  if ('reason' in event) return JSON.stringify({ ...event, reason: printable(event.reason, 600) });
  return JSON.stringify(event);
}

/** @returns undefined for what is none of ours: a trail that cannot be read must not stop anybody from reading the rest */
export function decodeTrailEvent(value: string): TrailEvent | undefined {
  try {
    const parsed = JSON.parse(value) as Partial<TrailEvent> | null;
    const isOurs =
      typeof parsed?.at === 'number' && typeof parsed.uniqueId === 'string' && typeof parsed.event === 'string';
    return isOurs ? (parsed as TrailEvent) : undefined;
  } catch {
    return undefined;
  }
}

/** What an event says, for people, without its time and its message. Not escaped. */
export function describeTrailEvent(event: TrailEvent): string {
  switch (event.event) {
    case 'seen':
      return event.size < 0 ? 'seen' : `seen, ${String(event.size)} octets`;
    case 'retrieved':
      return `retrieved, ${String(event.octets)} octets, SHA-256 ${event.sha256}`;
    case 'retrievalFailed':
      return `not retrieved: ${event.said}`;
    case 'delivered':
      return `delivered to ${event.destination}${tries(event.attempt)}: ${event.said}`;
    case 'deferred':
      return `deferred by ${event.destination}${tries(event.attempt)}: ${event.said}`;
    case 'rejected':
      return `rejected by ${event.destination}${tries(event.attempt)}: ${event.said}`;
    case 'inDoubt':
      return `in doubt at ${event.destination}: ${event.said}`;
    case 'quarantined':
      return `quarantined: ${event.reason}`;
    case 'retried':
      return 'released by a person';
    case 'discarded':
      return 'discarded by a person';
    case 'redirected':
      return `sent to ${event.destination} instead by a person`;
    case 'renamed':
      return event.uniqueId === event.to ? `known before as ${event.from}` : `known from here on as ${event.to}`;
    case 'deleted':
      return 'deleted on the server';
    case 'vanished':
      return 'gone from the server without our doing';
  }
}

function tries(attempt: number): string {
  return attempt > 1 ? ` at attempt ${String(attempt)}` : '';
}
