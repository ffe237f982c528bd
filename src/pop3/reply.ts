/** Reply lines, read as far as the standards let a client read them: the status, and a response code right behind it. Pure. */

export interface StatusReply<Kind extends 'ok' | 'err'> {
  readonly kind: Kind;
  /** RFC 2449 §8, upper case, without brackets. */
  readonly code: string | undefined;
  /** Behind the status, one character an octet. */
  readonly text: string;
}

export type Reply =
  | StatusReply<'ok'>
  | StatusReply<'err'>
  /** `+ ` and base64: the server wants the next answer of AUTH (RFC 5034 §4). */
  | { readonly kind: 'continue'; readonly challenge: string };

const CODE = /^[ \t]*\[([a-z][a-z0-9._-]*(?:\/[a-z0-9._-]+)*)\]/i;
const BLANK = /^[ \t]/;

/** @returns undefined if the line is no reply */
export function parseReply(line: Buffer): Reply | undefined {
  const text = line.toString('latin1');
  const status = text.slice(0, 4).toUpperCase();
  if (status.startsWith('+OK')) return statusReply('ok', text.slice(3));
  if (status === '-ERR') return statusReply('err', text.slice(4));
  if (text === '+' || text.startsWith('+ ')) return { kind: 'continue', challenge: text.slice(2).trim() };
  return undefined;
}

function statusReply<Kind extends 'ok' | 'err'>(kind: Kind, rest: string): StatusReply<Kind> {
  // RFC 2449 §8: a code stands only there, in upper or lower case.
  const code = rest.includes('[') ? CODE.exec(rest)?.[1]?.toUpperCase() : undefined;
  return { kind, code, text: rest.replace(BLANK, '') };
}

/** `NUMBER REST` of a UIDL or LIST line; undefined if it is none. A list may have a million, so no regular expressions. */
export function parseNumbered(line: Buffer): { readonly messageNumber: number; readonly rest: string } | undefined {
  let at = skipBlanks(line, 0);
  const first = at;
  let messageNumber = 0;
  for (let octet = line[at]; octet !== undefined && octet >= 0x30 && octet <= 0x39; octet = line[at]) {
    messageNumber = messageNumber * 10 + octet - 0x30;
    at += 1;
  }
  if (at - first > 10 || messageNumber === 0 || messageNumber > 0x7fffffff) return undefined;
  const from = skipBlanks(line, at);
  if (from === at && at < line.length) return undefined;
  let end = line.length;
  while (end > from && isBlank(line[end - 1])) end -= 1;
  return { messageNumber, rest: line.toString('latin1', from, end) };
}

function skipBlanks(line: Buffer, from: number): number {
  let at = from;
  while (isBlank(line[at])) at += 1;
  return at;
}

function isBlank(octet: number | undefined): boolean {
  return octet === 0x20 || octet === 0x09;
}

/** `NN MM` behind the +OK of STAT (RFC 1939 §5); more text may follow. */
export function parseStat(text: string): { readonly count: number; readonly octets: number } | undefined {
  const match = /^\s*(\d{1,10})[ \t]+(\d{1,15})(?!\d)/.exec(text);
  return match ? { count: Number(match[1]), octets: Number(match[2]) } : undefined;
}
