/** PLAIN (RFC 4616): user name and password as they are, so only within TLS. The server prepares them (§2), not we. */

import type { Mechanism } from './mechanism.ts';
import { unsayable, violation } from './violation.ts';

/** The mechanism for one exchange. Throws a `Failure` (`pop3.credentials`) for what PLAIN cannot say. */
export function createPlain({ user, password }: { readonly user: string; readonly password: string }): Mechanism {
  if (user === '' || password === '') throw unsayable('PLAIN', 'the user name or password is empty');
  if (`${user}${password}`.includes('\0')) throw unsayable('PLAIN', 'the user name or password holds a NUL');
  let answered = false;
  return {
    name: 'PLAIN',
    hasInitialResponse: true,
    respond() {
      if (answered) throw violation('PLAIN', 'the server asks again after the answer');
      answered = true;
      return Buffer.from(`\0${user}\0${password}`); // no authorization identity: the user's own
    },
  };
}
