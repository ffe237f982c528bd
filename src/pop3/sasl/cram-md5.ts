/**
 * CRAM-MD5 (RFC 2195). The password stays here, but an eavesdropper can guess at it offline, and the server proves
 * nothing: better than PLAIN without TLS, no better within.
 */

import { createHmac } from 'node:crypto';
import type { Mechanism } from './mechanism.ts';
import { violation } from './violation.ts';

const LONGEST_CHALLENGE = 4096;

/** The mechanism for one exchange. */
export function createCramMd5({ user, password }: { readonly user: string; readonly password: string }): Mechanism {
  let answered = false;
  return {
    name: 'CRAM-MD5',
    hasInitialResponse: false,
    respond(challenge) {
      if (answered) throw violation('CRAM-MD5', 'the server asks again after the answer');
      if (challenge.length === 0) throw violation('CRAM-MD5', 'the challenge is empty');
      if (challenge.length > LONGEST_CHALLENGE) throw violation('CRAM-MD5', 'the challenge is too long');
      answered = true;
      return Buffer.from(`${user} ${createHmac('md5', password).update(challenge).digest('hex')}`);
    },
  };
}
