/** Reply lines, read as far as the standards let a client read them: the status, and a response code right behind it. Pure. */

import { printableOctets } from '../untrusted.ts';

export interface StatusReply<Kind extends 'ok' | 'err'> {
  readonly kind: Kind;
  /** RFC 2449 §8, upper case, without brackets. */
  readonly code: string | undefined;
  /** Behind the status, one character an octet. */
  readonly text: string;
  /** The whole line, cut and escaped. */
  readonly said: string;
}

export type Reply =
  | StatusReply<'ok'>
  | StatusReply<'err'>
  /** `+ ` and base64: the server wants the next answer of AUTH (RFC 5034 §4). */
  | { readonly kind: 'continue'; readonly challenge: string };

const CODE = /^\s*\[([A-Za-z][A-Za-z0-9._-]*(?:\/[A-Za-z0-9._-]+)*)\]/;

/** @returns undefined if the line is no reply */
export function parseReply(line: Buffer): Reply | undefined {
  const text = line.toString('latin1');
  const [, status, rest = ''] = /^(\+OK|-ERR)(?:[ \t](.*)|)$/is.exec(text) ?? /^(\+OK|-ERR)(.*)$/is.exec(text) ?? [];
  if (status !== undefined) {
    const kind = status.startsWith('+') ? 'ok' : 'err';
    // RFC 2449 §8: only there, upper or lower case.
    return { kind, code: CODE.exec(rest)?.[1]?.toUpperCase(), text: rest, said: printableOctets(line) };
  }
  if (text === '+' || text.startsWith('+ ')) return { kind: 'continue', challenge: text.slice(2).trim() };
  return undefined;
}

/** `NUMBER REST` of a UIDL or LIST line; undefined if it is none. */
export function parseNumbered(line: Buffer): { readonly messageNumber: number; readonly rest: string } | undefined {
  const match = /^\s*(\d{1,10})(?:[ \t]+(.*?))?[ \t]*$/s.exec(line.toString('latin1'));
  if (!match) return undefined;
  const messageNumber = Number(match[1]);
  return messageNumber > 0 && messageNumber <= 0x7fffffff ? { messageNumber, rest: match[2] ?? '' } : undefined;
}

/** `NN MM` behind the +OK of STAT (RFC 1939 §5); more text may follow. */
export function parseStat(text: string): { readonly count: number; readonly octets: number } | undefined {
  const match = /^\s*(\d{1,10})[ \t]+(\d{1,18})/.exec(text);
  return match ? { count: Number(match[1]), octets: Number(match[2]) } : undefined;
}
