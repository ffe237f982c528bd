/** What the answer to a webhook means for its delivery (RFC 9110; pure). Only 2xx confirms; a redirect is not followed. */

import { printable } from '../untrusted.ts';
import type { Outcome, OutcomeKind } from './destination.ts';

export interface HttpAnswer {
  readonly status: number;
  /** Values of the header fields, names in lower case. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** The beginning of the body, printable. */
  readonly text: string;
  /** The whole request had been sent before the answer came. */
  readonly complete: boolean;
}

const TOO_EARLY = new Set([408, 425, 429]);
// Every message would have met the same: overload, gateways in front.
const ANY_MESSAGE = new Set([429, 502, 503, 504]);
// The same, until a person does something: credentials, a bill, a path, a form of request that is not wanted there.
const NEEDS_PERSON = new Set([401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426]);

/** Characters of an answer that are told: escapes make it longer than it came. */
const SAID = 300;

/** The longest Retry-After that is believed. Milliseconds. */
const LONGEST_WAIT = 24 * 60 * 60_000;

/** What an answer means at the time `now`. */
export function httpOutcome(answer: HttpAnswer, now: Date): Outcome {
  const { status, headers } = answer;
  const text = answer.text.trim().replace(/\s{2,}/g, ' ');
  const all = text === '' ? `HTTP ${String(status)}` : `HTTP ${String(status)}: ${text}`;
  const words = all.length > SAID ? printable(all, SAID) : all;
  const scope = ANY_MESSAGE.has(status) ? 'destination' : 'message';
  if (status >= 200 && status < 300 && !answer.complete) {
    const said = `${words} (before the whole message was sent: not taken for a confirmation)`;
    return { kind: 'deferred', said, scope: 'message' };
  }
  if (status >= 300 && status < 400) {
    // the path may hold a token, as that of the URL may: it is not repeated
    const target = URL.parse(firstOf(headers['location']) ?? '')?.origin ?? 'another path';
    const said = `HTTP ${String(status)}: redirects to ${target}; put the final URL into the config`;
    return { kind: 'deferred', said: printable(said), scope: 'destination', needsPerson: true };
  }
  if (NEEDS_PERSON.has(status)) {
    const refusal = { kind: 'deferred', said: words, scope: 'destination', needsPerson: true } as const;
    return status === 410 ? { ...refusal, gone: true } : refusal;
  }
  const outcome: Outcome = { kind: kindOf(status), said: words, scope };
  const retryAfter = outcome.kind === 'deferred' ? retryAfterOf(firstOf(headers['retry-after']), now) : undefined;
  return retryAfter === undefined ? outcome : { ...outcome, retryAfter };
}

/** Retry-After (RFC 9110 §10.2.3) in milliseconds, seconds or date; undefined if it is neither. At most a day. */
export function retryAfterOf(value: string | undefined, now: Date): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : httpDate(text) - now.getTime();
  return Number.isNaN(wait) ? undefined : Math.min(Math.max(wait, 0), LONGEST_WAIT);
}

/** Of a field that comes more than once, the first. */
function firstOf(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'object' ? value[0] : value;
}

function httpDate(text: string): number {
  // "date" is only what HTTP calls so: not the many other things that `Date.parse` reads
  return /^[A-Z][a-z]{2,8}, \d{2}[ -][A-Z][a-z]{2}[ -]\d{2,4} \d{2}:\d{2}:\d{2} GMT$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
}

function kindOf(status: number): OutcomeKind {
  if (status >= 200 && status < 300) return 'confirmed';
  return status >= 400 && status < 500 && !TOO_EARLY.has(status) ? 'rejected' : 'deferred';
}
