/**
 * LOGIN (draft-murchison-sasl-login): user name, then password, each asked for. The wording of the questions is the
 * server's own affair, only their order counts. Only within TLS.
 */

import type { Mechanism } from './mechanism.ts';
import { violation } from './violation.ts';

/** The mechanism for one exchange. */
export function createLogin({ user, password }: { readonly user: string; readonly password: string }): Mechanism {
  const answers = [user, password];
  return {
    name: 'LOGIN',
    hasInitialResponse: false, // some servers take one and then ask for the user name all the same
    respond() {
      const answer = answers.shift();
      if (answer === undefined) throw violation('LOGIN', 'the server asks for more than user name and password');
      return Buffer.from(answer);
    },
  };
}
