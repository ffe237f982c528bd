/** The failure of an exchange that the server did not keep to. Never carries what the client sent. */

import { Failure } from '../../failure.ts';

/** The server broke the rules of `mechanism`; `said` must already be printable. */
export function violation(mechanism: string, what: string, said?: string): Failure {
  return new Failure(`${mechanism}: ${what}`, {
    scope: 'account',
    code: 'pop3.sasl',
    ...(said === undefined ? {} : { said }),
    remedy: `If this server is known to be sound, name another \`mechanism\` for the account.`,
  });
}

/** A user name or password that `mechanism` has no way to say. Never shows the value. */
export function unsayable(mechanism: string, what: string): Failure {
  return new Failure(`${mechanism}: ${what}`, {
    scope: 'account',
    permanent: true,
    code: 'pop3.credentials',
    remedy: 'Correct the user name or password of the account, or name another `mechanism`.',
  });
}
