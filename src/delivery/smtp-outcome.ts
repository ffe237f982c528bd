/**
 * What the replies of an SMTP or LMTP server mean for a delivery (RFC 5321 §4.2.1, §4.5.3.2; pure): one outcome for each
 * recipient and one over all. Unknown means temporary; silence after the final dot means in doubt.
 */

import { printable } from '../untrusted.ts';
import type { Outcome, OutcomeKind, RecipientOutcome } from './destination.ts';

/** One reply of a server: the code, and its text with the code in front, as it came. */
export interface Reply {
  readonly code: number;
  readonly text: string;
}

export type Stage = 'mail' | 'rcpt' | 'data' | 'message';

/** How a mail transaction ended. */
export type Ending =
  /** 2xx after the final dot. */
  | { readonly kind: 'accepted'; readonly reply: Reply }
  /** A reply that refuses, to the command named. At `rcpt`: nobody was accepted. */
  | { readonly kind: 'refused'; readonly stage: Stage; readonly reply: Reply }
  /** No reply, or none that can be understood. `complete`: the final dot may have been sent. */
  | { readonly kind: 'lost'; readonly reason: string; readonly started: boolean; readonly complete: boolean }
  /** Nothing was sent, because this server can never take this message. */
  | { readonly kind: 'unsendable'; readonly reason: string }
  /** The stored message could not be read to its end; no final dot was sent. */
  | { readonly kind: 'unreadable'; readonly reason: string };

export interface Transaction {
  /** All recipients of the attempt, as the config names them. */
  readonly recipients: readonly string[];
  /** Refusals at RCPT TO, by recipient. */
  readonly refused: ReadonlyMap<string, Reply>;
  /** Empty but for LMTP: the replies after the final dot, by recipient (RFC 2033 §4.2). */
  readonly settled: ReadonlyMap<string, Reply>;
  readonly ending: Ending;
}

const RANK: Readonly<Record<OutcomeKind, number>> = { confirmed: 0, rejected: 1, deferred: 2, inDoubt: 3 };

const NOBODY: ReadonlyMap<string, Reply> = new Map();

/** The kind over all recipients: in doubt before deferred before rejected before confirmed. */
export function overall(kinds: readonly OutcomeKind[]): OutcomeKind {
  return kinds.reduce<OutcomeKind>((worst, kind) => (RANK[kind] > RANK[worst] ? kind : worst), 'confirmed');
}

/** What a transaction means. */
export function smtpOutcome(transaction: Transaction): Outcome {
  const common = commonOutcome(transaction.ending);
  const recipients: Record<string, RecipientOutcome> = {};
  // Behind a refused MAIL FROM the replies to RCPT TO only say that there is no transaction.
  const refused = isRefusedAtMail(transaction.ending) ? NOBODY : transaction.refused;
  for (const recipient of transaction.recipients) {
    const settled = transaction.settled.get(recipient);
    const own = settled ?? refused.get(recipient);
    if (own === undefined) recipients[recipient] = common;
    // after the final dot, a reply that is neither yes nor no leaves in doubt
    else if (own === settled && !isReply(own)) recipients[recipient] = { kind: 'inDoubt', said: wordsOf(own) };
    else recipients[recipient] = { kind: replyKind(own), said: wordsOf(own) };
  }
  const outcomes = Object.values(recipients);
  // a message that names nobody must not count as confirmed by everybody
  const kind = outcomes.length === 0 ? common.kind : overall(outcomes.map((outcome) => outcome.kind));
  // the evidence of the whole is that of the recipient that decided it
  const said = outcomes.find((outcome) => outcome.kind === kind)?.said ?? common.said;
  const needsPerson = isRefusedLogin(transaction.ending) ? { needsPerson: true } : {};
  return { kind, said, scope: scopeOf(transaction.ending), ...needsPerson, recipients };
}

/** 4xx, and whatever is no clear refusal, may go better later; 5xx will not. */
export function replyKind(reply: Reply): OutcomeKind {
  if (reply.code >= 200 && reply.code < 300) return 'confirmed';
  // 503 says that the session got out of step, 530 to 538 that the login did: neither is about the message
  return reply.code >= 500 && reply.code < 600 && !isSessionCode(reply.code) ? 'rejected' : 'deferred';
}

/** A reply as one line of evidence: the codes of continuation lines removed, cut and escaped. */
export function wordsOf(reply: Reply): string {
  const text = reply.text.trim();
  // Nearly always: a reply of one line.
  if (!text.includes('\n') && text[3] !== '-') return printable(text);
  const enhanced = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3} )/.exec(text)?.[1] ?? '';
  const lines = text.split(/\r?\n/).map((line, index) => {
    if (index === 0) return line.replace(/^(\d{3})-/, '$1 ');
    const rest = line.replace(/^\d{3}[ -]?/, '');
    return enhanced !== '' && rest.startsWith(enhanced) ? rest.slice(enhanced.length) : rest;
  });
  return printable(lines.join(' '));
}

/** The code in front of a reply; 0 if there is none. */
export function codeOf(text: string): number {
  // Read without a regular expression: it is done for each reply.
  const behind = text.length > 3 ? text[3] : ' ';
  if (text.length < 3 || (behind !== ' ' && behind !== '-' && behind !== '\n')) return 0;
  let code = 0;
  for (let at = 0; at < 3; at += 1) {
    const digit = text.charCodeAt(at) - 0x30;
    if (digit < 0 || digit > 9) return 0;
    code = 10 * code + digit;
  }
  return code;
}

function commonOutcome(ending: Ending): RecipientOutcome {
  switch (ending.kind) {
    case 'accepted':
      return { kind: 'confirmed', said: wordsOf(ending.reply) };
    case 'refused':
      return { kind: replyKind(ending.reply), said: wordsOf(ending.reply) };
    case 'lost':
      return ending.complete
        ? { kind: 'inDoubt', said: printable(`${ending.reason} after the whole message was sent, before the reply`) }
        : { kind: 'deferred', said: printable(ending.reason) };
    case 'unsendable':
      return { kind: 'rejected', said: printable(ending.reason) };
    case 'unreadable':
      return { kind: 'deferred', said: printable(ending.reason) };
  }
}

function scopeOf(ending: Ending): Outcome['scope'] {
  switch (ending.kind) {
    case 'refused': {
      const { code, text } = ending.reply;
      if (code === 421 || isSessionCode(code)) return 'destination';
      // "mail system status" (RFC 3463 §3.4) before the recipients are known: a full disk, a server in maintenance
      return ending.stage === 'mail' && /^4\d\d[ -]4\.3\.[0-35-9]/.test(text) ? 'destination' : 'message';
    }
    case 'lost':
      // once the message is on its way, it may be the message that the server dies of
      return ending.started ? 'message' : 'destination';
    case 'accepted':
    case 'unsendable':
    case 'unreadable':
      return 'message';
  }
}

function isReply({ code }: Reply): boolean {
  return (code >= 200 && code < 300) || (code >= 400 && code < 600);
}

function isRefusedAtMail(ending: Ending): boolean {
  return ending.kind === 'refused' && ending.stage === 'mail';
}

function isRefusedLogin(ending: Ending): boolean {
  return ending.kind === 'refused' && ending.reply.code !== 503 && isSessionCode(ending.reply.code);
}

function isSessionCode(code: number): boolean {
  return code === 503 || code === 530 || code === 534 || code === 535 || code === 538;
}
