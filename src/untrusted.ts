/**
 * Text that others wrote (server replies, header fields, unique-ids) on its way to a terminal, a log or a page.
 * Nothing of theirs may pass here that moves a cursor, starts a line or fills a disk, and none of our secrets: some servers
 * repeat what they were told.
 */

import { isAscii } from 'node:buffer';
import { revealed } from './redact.ts';

const LIMIT = 300;

// C0 and C1 controls, DEL, line and paragraph separators, and the bidirectional overrides that reorder what is read.
// oxlint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g;
/** What nearly all text is: nothing of that, and no half of a character. */
const SAFE = /^[\u0020-\u007e]*$/;

/** Looked through for secrets beyond the cut, so that none is cut in half. */
const BEYOND = 4096;

/** `text` on one line, known secrets replaced, controls as `\xNN` or `\u{NNNN}`, cut to `limit` characters with an ellipsis. */
export function printable(text: string, limit: number = LIMIT): string {
  const clean = revealed.redact(text.slice(0, limit + BEYOND));
  const cut = clean.length > limit ? `${clean.slice(0, limit)}…` : clean;
  if (SAFE.test(cut)) return cut;
  // A cut may leave half a character, and so may others.
  return cut.toWellFormed().replace(UNSAFE, (character) => {
    const point = character.charCodeAt(0);
    return point < 0x100 ? `\\x${point.toString(16).padStart(2, '0')}` : `\\u{${point.toString(16)}}`;
  });
}

/** Octets of a server as printable text: UTF-8 where it is valid, else Latin-1, so that no octet is hidden. */
export function printableOctets(octets: Buffer, limit: number = LIMIT): string {
  const head = octets.length > limit * 4 ? octets.subarray(0, limit * 4) : octets;
  return printable((isAscii(head) ? undefined : utf8Of(head)) ?? head.toString('latin1'), limit);
}

/** Undefined if it is none; a character that the end cuts off is left away. */
function utf8Of(octets: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(octets, { stream: true });
  } catch {
    return undefined; // another encoding
  }
}
