/**
 * The error challenge of XOAUTH2 and OAUTHBEARER (RFC 7628 §3.2.2): JSON that says why a token was refused. What comes
 * out is for logs: printable, short, and never with the token in it, should a server send it back.
 */

import { printable, printableOctets } from '../../untrusted.ts';

const LONGEST = 16_384;
const FIELDS = ['status', 'error', 'error_description', 'scope', 'schemes', 'openid-configuration'];

/** `status invalid_token, scope mail`: the known fields of the challenge, or what it says if it is no JSON. */
export function describeOAuthError(challenge: Buffer, token: string): string {
  if (challenge.length > LONGEST) return 'the reason that the server gives is too long';
  const error = parsed(challenge);
  // the token goes before anything is cut, since half a token would not be found
  if (error === undefined) {
    return printableOctets(Buffer.from(challenge.toString('latin1').replaceAll(token, '[token]'), 'latin1'), 200);
  }
  const known: string[] = [];
  for (const field of FIELDS) {
    const value = error[field];
    if (typeof value !== 'string' && typeof value !== 'number') continue;
    known.push(`${field} ${printable(String(value).replaceAll(token, '[token]'), 100)}`);
  }
  return known.length === 0 ? 'the server gives no reason' : known.join(', ');
}

function parsed(json: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // Exchange and others may say it in plain words
  }
}
