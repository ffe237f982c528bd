/**
 * SASLprep (RFC 4013): user names and passwords that look the same become the same octets. Only SCRAM asks the client
 * for it; PLAIN leaves it to the server (RFC 4616 §2), CRAM-MD5 and APOP are older than it.
 */

import { createRequire } from 'node:module';
import type Saslprep from '@mongodb-js/saslprep';
import { unsayable } from './violation.ts';

// What SASLprep leaves alone, so that nearly all credentials never meet the tables.
const PLAIN_ASCII = /^[\u0020-\u007e]*$/;
// Longer is no password, and the library puts all characters on the stack at once.
const LONGEST = 4096;

// The tables take 90 ms of CPU to load, and next to nobody needs them.
const require = createRequire(import.meta.url);

function prepared(text: string): string {
  if (PLAIN_ASCII.test(text)) return text;
  if (text.length > LONGEST) throw new RangeError('too long');
  // a query string (RFC 4013 §2.5): characters newer than Unicode 3.2 are let through
  const { saslprep } = require('@mongodb-js/saslprep') as typeof Saslprep;
  return saslprep(text, { allowUnassigned: true });
}

/**
 * The user name as SCRAM sends it (RFC 5802 §5.1). Throws a `Failure` (`pop3.credentials`) if nothing is left of it or
 * it holds what SASLprep prohibits.
 */
export function prepareUser(user: string): string {
  let name: string;
  try {
    name = prepared(user);
  } catch {
    throw unsayable('SCRAM', 'the user name holds characters that SASLprep prohibits'); // the cause might show it
  }
  if (name === '') throw unsayable('SCRAM', 'the user name is empty');
  return name;
}

/**
 * The password as SCRAM hashes it. One that SASLprep refuses (a control character, mixed directions of writing) is used
 * as it is: servers that prepare could never have stored it, and those that do not (Dovecot) hashed it like that.
 */
export function preparePassword(password: string): string {
  try {
    const ready = prepared(password);
    return ready === '' ? password : ready;
  } catch {
    return password;
  }
}
