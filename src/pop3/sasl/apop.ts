/**
 * APOP (RFC 1939 §7). MD5 over timestamp and password can be attacked with timestamps made for it (CVE-2007-1558); such
 * ones hold octets that no message-id may hold, so only a true message-id is answered.
 */

import { createHash } from 'node:crypto';

const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"; // RFC 5322 §3.2.3
const MESSAGE_ID = new RegExp(`^<${ATOM}(?:\\.${ATOM})*@(?:${ATOM}(?:\\.${ATOM})*|\\[[A-Za-z0-9:.]+\\])>$`);

/** The timestamp of a greeting: its first `<...>`, if that has the form of a message-id; else undefined. */
export function apopTimestamp(greeting: string): string | undefined {
  const [found] = /<[^<>]*>/.exec(greeting) ?? [];
  return found !== undefined && MESSAGE_ID.test(found) ? found : undefined;
}

/** The digest argument of APOP: lower-case hexadecimal. Throws a `TypeError` if `timestamp` is not a message-id. */
export function apopDigest(timestamp: string, password: string): string {
  if (!MESSAGE_ID.test(timestamp)) throw new TypeError('no APOP timestamp');
  return createHash('md5').update(timestamp).update(password).digest('hex');
}
