/** What goes wrong in a POP3 session, with what the scheduler and an operator need to know of it. */

import { Failure } from '../failure.ts';
import type { FailureDetails } from '../failure.ts';

/**
 * - `connect`: no connection. `tls`: no verified TLS. `timeout`: nothing came in time. `closed`: the connection ended.
 * - `protocol`: the server does not speak POP3 as it should. `refused`: -ERR to one command; the session goes on.
 * - `auth`: the login was refused. `policy`: we refuse, since the config asks for more than the server gives.
 */
export type Pop3ErrorKind = 'connect' | 'tls' | 'timeout' | 'closed' | 'protocol' | 'refused' | 'auth' | 'policy';

export interface Pop3ErrorDetails extends Omit<FailureDetails, 'code' | 'scope'> {
  readonly kind: Pop3ErrorKind;
  readonly scope?: FailureDetails['scope'];
  /** Without arguments that are secrets. */
  readonly command?: string;
  /** RFC 2449 §8, upper case, without brackets. */
  readonly responseCode?: string | undefined;
}

export class Pop3Error extends Failure {
  override readonly name = 'Pop3Error';
  readonly kind: Pop3ErrorKind;
  readonly command: string | undefined;
  readonly responseCode: string | undefined;

  constructor(message: string, { kind, command, responseCode, scope, ...details }: Pop3ErrorDetails) {
    super(message, { ...details, scope: scope ?? 'account', code: `pop3.${kind}` });
    this.kind = kind;
    this.command = command;
    this.responseCode = responseCode;
  }
}
