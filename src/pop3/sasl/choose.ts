/**
 * Which ways to log in there are, strongest first, and why the others are none. Pure. No method that gives a secret away
 * is ever offered on a connection without TLS, unless the account says `security: none`.
 */

import type { Security } from '../../config/types.ts';

/** SASL mechanisms and POP3's own two, strongest first. */
export const METHODS = [
  'OAUTHBEARER',
  'XOAUTH2',
  'SCRAM-SHA-256-PLUS',
  'SCRAM-SHA-256',
  'SCRAM-SHA-1',
  'CRAM-MD5',
  'PLAIN',
  'LOGIN',
  'APOP',
  'USER',
  'EXTERNAL',
] as const;
export type Method = (typeof METHODS)[number];

/** What the server can do, as it says on this connection now. */
export interface Offer {
  /** The arguments of its SASL capability; undefined: it has none, or no CAPA. */
  readonly sasl: readonly string[] | undefined;
  /** Its USER capability; `unknown` if it has no CAPA. */
  readonly user: boolean | 'unknown';
  /** Whether its greeting holds a valid timestamp (`apop.ts`). */
  readonly apop: boolean;
}

/** What the account has to log in with. */
export interface Credentials {
  readonly password: boolean;
  readonly token: boolean;
  /** A client certificate that was configured for TLS. */
  readonly certificate: boolean;
}

export interface Wire {
  /** TLS is up, and the server's certificate has been verified. */
  readonly tls: boolean;
  /** What the config asks for. */
  readonly security: Security;
  /** Whether channel binding data can be had of this connection. */
  readonly binding: boolean;
}

export interface Candidate {
  readonly method: Method;
  /** For SCRAM: its gs2-cbind-flag, see `BindingUse` in `scram.ts`. */
  readonly binding: 'bound' | 'unoffered' | 'unsupported';
  /** Whether the server names it among its mechanisms; if not, an initial response must not be sent (RFC 5034 §4). */
  readonly listed: boolean;
  /** Why it is here, for `check` and the log. */
  readonly reason: string;
}

export interface Decision {
  /** What may be tried, in this order. Empty: there is no way in. */
  readonly candidates: readonly Candidate[];
  /** Why each other method was passed over. */
  readonly passed: readonly { readonly method: Method; readonly reason: string }[];
  /** Only if `candidates` is empty: what is wrong, and what the operator can do. */
  readonly refusal: { readonly message: string; readonly remedy: string } | undefined;
}

export interface Question {
  readonly offer: Offer;
  readonly credentials: Credentials;
  readonly wire: Wire;
  /** The account's `mechanism`, in any case: a SASL mechanism, `apop` or `user`. */
  readonly named: string | undefined;
}

/**
 * The ways to log in, strongest first, but for what real servers offer in vain; one at most if the account names its
 * mechanism.
 */
export function choose(question: Question): Decision {
  const { offer, credentials, wire } = question;
  const named = question.named?.toUpperCase();
  if (!wire.tls && wire.security !== 'none') {
    return none('the connection is not encrypted, as the account demands', 'See why TLS did not come about.');
  }
  if (named !== undefined && !METHODS.some((method) => method === named)) {
    return none(`the mechanism ${named} is not known here`, `Name one of: ${METHODS.join(', ')}.`);
  }
  if (!credentials.password && !credentials.token && !credentials.certificate) {
    return none('the account has nothing to log in with', 'Give the account a password, a token or a certificate.');
  }

  const candidates: Candidate[] = [];
  const passed: { method: Method; reason: string }[] = [];
  for (const method of [...METHODS].sort((a, b) => rank(a, wire) - rank(b, wire))) {
    const judged = named === undefined || named === method ? judge(method, question) : no('another one is named');
    if (judged.usable) candidates.push(candidate(method, question, judged.reason));
    else passed.push({ method, reason: judged.reason });
  }
  if (candidates.length > 0) return { candidates, passed, refusal: undefined };

  const told = named === undefined ? undefined : passed.find(({ method }) => method === named)?.reason;
  const message = told === undefined ? 'there is no way to log in that both sides know' : `${named ?? ''}: ${told}`;
  return { candidates, passed, refusal: { message, remedy: `The server offers ${described(offer)}.` } };
}

/**
 * What to try once more after the server has refused one; undefined: the credentials must be taken for wrong. A server may
 * offer what it has no secret of this user's for, and refuse the right password in the same words as a wrong one. Only a
 * method that shows it the password itself settles that. It is the last one: two refusals lock no account.
 * @param code the response code of the refusal; empty: none
 */
export function afterRefusal({ candidates }: Decision, refused: Method, code: string): Candidate | undefined {
  if (isDecisive(refused)) return undefined;
  // RFC 3206 §5: [AUTH] means the credentials. But those of APOP are a file of their own, and Mailutils says [AUTH] for want of it
  if (code !== '' && !(code.startsWith('AUTH') && refused === 'APOP')) return undefined;
  return candidates.find(({ method }) => isDecisive(method));
}

/** Whether the server has judged the credentials themselves when it refuses this. */
function isDecisive(method: Method): boolean {
  return !/^(SCRAM|CRAM|APOP)/.test(method);
}

/** The order. */
function rank(method: Method, wire: Wire): number {
  // Cyrus binds to `tls-unique` alone, also where the standards have no such thing (TLS 1.3), and SCRAM has no way to ask
  if (method === 'SCRAM-SHA-256-PLUS') return METHODS.indexOf('SCRAM-SHA-1') + 0.5;
  // Solid and Mailutils show everybody a timestamp, but have no secrets for it: not worth a refusal where TLS hides all
  if (method === 'APOP' && wire.tls) return METHODS.indexOf('USER') + 0.5;
  return METHODS.indexOf(method);
}

interface Judgement {
  readonly usable: boolean;
  readonly reason: string;
}

function yes(reason: string): Judgement {
  return { usable: true, reason };
}

function no(reason: string): Judgement {
  return { usable: false, reason };
}

function judge(method: Method, question: Question): Judgement {
  const { offer, credentials, wire, named } = question;
  switch (method) {
    case 'OAUTHBEARER':
    case 'XOAUTH2':
      return credentials.token ? offered(method, question) : no('the account has no token');
    case 'EXTERNAL':
      if (!wire.tls) return no('it needs TLS');
      if (!credentials.certificate) return no('the account has no client certificate');
      if (named === undefined && (credentials.password || credentials.token)) return no('there is a password or token');
      return offered(method, question);
    case 'SCRAM-SHA-256-PLUS':
      return withPassword(question, () =>
        wire.binding ? offered(method, question) : no('there is no channel binding on this connection'),
      );
    case 'SCRAM-SHA-256':
    case 'SCRAM-SHA-1':
    case 'CRAM-MD5':
    case 'PLAIN':
    case 'LOGIN':
      return withPassword(question, () => offered(method, question));
    case 'APOP':
      return withPassword(question, () =>
        offer.apop ? yes('the greeting has a timestamp') : no('the greeting has no timestamp that is a message-id'),
      );
    case 'USER':
      return withPassword(question, () => userPass(offer, named !== undefined));
  }
}

function withPassword({ credentials }: Question, judgement: () => Judgement): Judgement {
  return credentials.password ? judgement() : no('the account has no password');
}

function offered(method: Method, { offer, named }: Question): Judgement {
  if (lists(offer, method)) return yes('the server lists it');
  if (named !== undefined && offer.sasl === undefined) return yes('the account names it, and the server has no list');
  return no('the server does not list it');
}

function userPass(offer: Offer, named: boolean): Judgement {
  if (offer.user === true) return yes('the server lists it');
  if (offer.user === 'unknown') return yes('the server has no CAPA');
  if (named) return yes('the account names it');
  // a server that names no way at all forgot one; one with a list, even an empty one, did not
  if (offer.sasl === undefined && !offer.apop) return yes('the server names no way to log in, and this is the oldest');
  return no('the server does not list it');
}

function candidate(method: Method, { offer, wire }: Question, reason: string): Candidate {
  const listed = lists(offer, method);
  const offersBinding = offer.sasl?.some((name) => /^SCRAM-.*-PLUS$/i.test(name)) ?? false;
  if (method === 'SCRAM-SHA-256-PLUS') return { method, binding: 'bound', listed, reason };
  // 'y' from a client that does see an offer would be taken for an attack (RFC 5802 §6)
  return { method, binding: wire.binding && !offersBinding ? 'unoffered' : 'unsupported', listed, reason };
}

function lists(offer: Offer, method: Method): boolean {
  return offer.sasl?.some((name) => name.toUpperCase() === method) ?? false;
}

function described({ sasl, user, apop }: Offer): string {
  const ways = [...(sasl ?? []), ...(apop ? ['APOP'] : []), ...(user === false ? [] : ['USER'])];
  return ways.length === 0 ? 'nothing' : ways.join(', ');
}

function none(message: string, remedy: string): Decision {
  return { candidates: [], passed: [], refusal: { message, remedy } };
}
