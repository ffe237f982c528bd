/** EXTERNAL (RFC 4422 appendix A): who we are was shown by the client certificate in TLS; this says only as whom to act. */

import type { Mechanism } from './mechanism.ts';
import { unsayable, violation } from './violation.ts';

/** The mechanism for one exchange. An empty `user` leaves it to the server to take the name from the certificate. */
export function createExternal({ user }: { readonly user: string }): Mechanism {
  if (user.includes('\0')) throw unsayable('EXTERNAL', 'the user name holds a NUL');
  let answered = false;
  return {
    name: 'EXTERNAL',
    hasInitialResponse: true,
    respond() {
      if (answered) throw violation('EXTERNAL', 'the server asks again after the answer');
      answered = true;
      return Buffer.from(user);
    },
  };
}
