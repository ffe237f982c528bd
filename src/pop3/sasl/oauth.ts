/**
 * OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's and Microsoft's older form of it): a bearer token in place of a password.
 * The token is a secret like one: only within TLS, and in no error.
 */

import type { Mechanism } from './mechanism.ts';
import { describeOAuthError } from './oauth-error.ts';
import { saslName } from './scram.ts';
import { unsayable, violation } from './violation.ts';

const SEPARATOR = '\x01';
const LAST_WORD = Buffer.from(SEPARATOR); // RFC 7628 §3.2.3
const NOTHING = Buffer.alloc(0);

export interface OAuthBearerOptions {
  readonly user: string;
  readonly token: string;
  /** As the account names them: the server may check whom the token was meant for. */
  readonly host: string;
  readonly port: number;
}

/** OAUTHBEARER for one exchange. Throws a `Failure` (`pop3.credentials`) for a user name or token it cannot say. */
export function createOAuthBearer({ user, token, host, port }: OAuthBearerOptions): Mechanism {
  check('OAUTHBEARER', user, token);
  const fields = [`n,a=${saslName(user)},`, `host=${host}`, `port=${String(port)}`, `auth=Bearer ${token}`, '', ''];
  return bearer('OAUTHBEARER', fields.join(SEPARATOR), token, LAST_WORD);
}

/** XOAUTH2 for one exchange. Throws a `Failure` (`pop3.credentials`) for a user name or token it cannot say. */
export function createXOAuth2({ user, token }: { readonly user: string; readonly token: string }): Mechanism {
  check('XOAUTH2', user, token);
  return bearer('XOAUTH2', [`user=${user}`, `auth=Bearer ${token}`, '', ''].join(SEPARATOR), token, NOTHING);
}

/** @param giveUp what answers an error challenge, so that the server comes to its -ERR */
function bearer(name: string, response: string, token: string, giveUp: Buffer): Mechanism {
  let step: 'start' | 'sent' | 'refused' = 'start';
  let detail: string | undefined;
  return {
    name,
    hasInitialResponse: true,
    respond(challenge) {
      switch (step) {
        case 'start':
          step = 'sent';
          return Buffer.from(response);
        case 'sent':
          step = 'refused';
          detail = describeOAuthError(challenge, token);
          return giveUp;
        case 'refused':
          throw violation(name, 'the server goes on after it has refused the token');
      }
    },
    // a server that refused and then says +OK is not in its right mind, or not the right server
    verified: () => step === 'sent',
    failureDetail: () => detail,
  };
}

function check(mechanism: string, user: string, token: string): void {
  if (user.includes(SEPARATOR) || user.includes('\0')) throw unsayable(mechanism, 'the user name holds a control');
  if (!/^[\x21-\x7e]+$/.test(token)) throw unsayable(mechanism, 'the token is empty or holds what no token may hold');
}
