/** The table of mechanisms: a candidate of `choose.ts` and the credentials make the machine for one exchange. Pure. */

import { createCramMd5 } from './cram-md5.ts';
import { createExternal } from './external.ts';
import { createLogin } from './login.ts';
import type { Candidate, Method } from './choose.ts';
import type { Mechanism } from './mechanism.ts';
import { createOAuthBearer, createXOAuth2 } from './oauth.ts';
import { createPlain } from './plain.ts';
import { createScram } from './scram.ts';
import type { BindingUse, ChannelBinding, ScramName } from './scram.ts';

/** Those that run under AUTH: all but POP3's own. */
export type SaslMethod = Exclude<Method, 'APOP' | 'USER'>;

export interface Identity {
  readonly user: string;
  /** Empty where the method needs none. */
  readonly password: string;
  readonly token: string;
  readonly host: string;
  readonly port: number;
  /** Fresh random for this exchange, see `ScramOptions`. */
  readonly nonce: string;
  /** That of the TLS connection; undefined: it has none. */
  readonly binding: ChannelBinding | undefined;
}

/** The mechanism for one exchange. Throws a `Failure` (`pop3.credentials`) for credentials that it cannot say. */
export function createMechanism(
  method: SaslMethod,
  identity: Identity,
  binding: Candidate['binding'] = 'unsupported',
): Mechanism {
  switch (method) {
    case 'SCRAM-SHA-256-PLUS':
    case 'SCRAM-SHA-256':
    case 'SCRAM-SHA-1':
      return scram(method, identity, binding);
    case 'CRAM-MD5':
      return createCramMd5(identity);
    case 'PLAIN':
      return createPlain(identity);
    case 'LOGIN':
      return createLogin(identity);
    case 'OAUTHBEARER':
      return createOAuthBearer(identity);
    case 'XOAUTH2':
      return createXOAuth2(identity);
    case 'EXTERNAL':
      return createExternal(identity);
  }
}

function scram(name: ScramName, { user, password, nonce, binding }: Identity, use: Candidate['binding']): Mechanism {
  return createScram({ name, user, password, nonce, binding: bindingUse(use, binding) });
}

function bindingUse(use: Candidate['binding'], binding: ChannelBinding | undefined): BindingUse {
  if (use !== 'bound') return { kind: use };
  if (binding === undefined) throw new TypeError('a bound SCRAM without channel binding data');
  return { kind: 'bound', binding };
}
