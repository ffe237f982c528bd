/**
 * What is to be said to a person: from how accounts and destinations stand, and from what was said before. Pure. It knows
 * nothing of how an alert is delivered, so that no alert can ever be about an alert.
 */

import type { Trouble } from '../sync/account.ts';

/** About one subject at most one alert in this time. Milliseconds. */
export const QUIET = 60 * 60_000;

export interface AccountFacts {
  readonly name: string;
  readonly trouble: Trouble | undefined;
  /** Messages that need a person. */
  readonly quarantined: number;
}

export interface DestinationFacts {
  readonly name: string;
  /** Since when it does not work, in milliseconds since 1970; 0 if it does. */
  readonly pausedSince: number;
  /** It asked never to be called again. */
  readonly isGone: boolean;
  /** It refuses us until a person does something. */
  readonly needsPerson: boolean;
  /** Its own words, cut and escaped. */
  readonly said: string;
}

export interface Facts {
  readonly accounts: readonly AccountFacts[];
  readonly destinations: readonly DestinationFacts[];
}

/** One thing that needs a person, or needed one. */
export interface Notice {
  /** What it is about and of which kind: `account isp trouble`. */
  readonly subject: string;
  /** One line: who, and what. */
  readonly title: string;
  readonly remedy: string;
  /** Milliseconds since 1970; 0 if that is not known. */
  readonly since: number;
}

interface Condition extends Notice {
  /** Told at once, since it cannot pass by itself. */
  readonly isUrgent: boolean;
  /** Told again when it grows. */
  readonly size: number;
}

/** What was said last of a subject. */
export interface Said {
  readonly at: number;
  /** When that it is over was said; 0 while it is not. */
  readonly over: number;
  readonly size: number;
}

/** What is to be said now, all in one message, and what has been said then. */
export interface Saying {
  readonly wrong: readonly Notice[];
  readonly over: readonly Notice[];
  readonly said: ReadonlyMap<string, Said>;
}

/**
 * What is to be said now.
 * @param said by subject, as it was returned the last time
 * @param after how long what may pass by itself must have lasted; milliseconds
 * @param now milliseconds since 1970
 */
export function whatToSay(facts: Facts, said: ReadonlyMap<string, Said>, after: number, now: number): Saying {
  const wrong: Notice[] = [];
  const over: Notice[] = [];
  const next = new Map<string, Said>();
  const conditions = new Map(conditionsOf(facts).map((condition) => [condition.subject, condition]));
  for (const [subject, condition] of conditions) {
    const before = said.get(subject);
    const isDue = condition.isUrgent || now - condition.since >= after;
    const isNews = before === undefined || before.over > 0 || condition.size > before.size;
    const isQuiet = before !== undefined && now - before.at < QUIET;
    if (isDue && isNews && !isQuiet) {
      wrong.push(condition);
      next.set(subject, { at: now, over: 0, size: condition.size });
    } else if (before) next.set(subject, before);
  }
  const known = new Set(facts.accounts.map(({ name }) => `account ${name}`));
  for (const { name } of facts.destinations) known.add(`destination ${name}`);
  for (const [subject, before] of said) {
    if (conditions.has(subject)) continue;
    const about = subject.slice(0, subject.lastIndexOf(' '));
    // What left the config is nobody's trouble any more; what was over long ago need not be remembered.
    if (!known.has(about) || (before.over > 0 && now - before.at >= QUIET)) continue;
    if (before.over === 0) over.push({ subject, title: `${about}: ${relief(subject)}`, remedy: '', since: before.at });
    next.set(subject, before.over === 0 ? { ...before, over: now } : before);
  }
  return { wrong, over, said: next };
}

function relief(subject: string): string {
  return subject.endsWith(' quarantine') ? 'no mail needs a person any more' : 'works again';
}

function conditionsOf({ accounts, destinations }: Facts): Condition[] {
  return [...accounts.flatMap(accountConditions), ...destinations.flatMap(destinationConditions)];
}

function accountConditions({ name, trouble, quarantined }: AccountFacts): Condition[] {
  const found: Condition[] = [];
  if (trouble?.needsPerson === true) {
    const { message, remedy, since, code } = trouble;
    found.push({
      subject: `account ${name} trouble`,
      title: `account ${name}: ${message}`,
      remedy,
      since,
      isUrgent: code === 'ledger.lost',
      size: 0,
    });
  }
  if (quarantined > 0) {
    found.push({
      subject: `account ${name} quarantine`,
      title: `account ${name}: ${quarantined} ${quarantined === 1 ? 'message is' : 'messages are'} quarantined, and left on the server`,
      remedy: `"mailferry messages list ${name}" tells why; then "mailferry messages retry" or "discard".`,
      since: 0,
      isUrgent: true,
      size: quarantined,
    });
  }
  return found;
}

function destinationConditions({ name, pausedSince, isGone, needsPerson, said }: DestinationFacts): Condition[] {
  if (pausedSince === 0) return [];
  const what = isGone ? 'wants no mail any more, and is disabled' : 'is paused';
  const remedy = isGone
    ? 'Correct its config, or take it out; if it is back, restart mailferry.'
    : needsPerson
      ? `"mailferry check" tells what is wrong; when it is right, restart mailferry, or wait for the next attempt.`
      : '';
  return [
    {
      subject: `destination ${name} pause`,
      title: `destination ${name}: ${what}: ${said}`,
      remedy,
      since: pausedSince,
      isUrgent: isGone,
      size: isGone ? 1 : 0,
    },
  ];
}
