/** What goes wrong in a POP3 session, with what the scheduler and an operator need to know of it. */

import { Failure } from '../failure.ts';
import type { FailureDetails } from '../failure.ts';
import type { Lesson } from './lessons.ts';

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
  /** Of a refused login: the LOGIN-DELAY that the server announced before it (RFC 2449 §6.5), in seconds. */
  readonly loginDelay?: number | undefined;
  /** Of a refused login: what a further session may do otherwise, where the credentials may still be right. */
  readonly lesson?: Lesson | undefined;
}

export class Pop3Error extends Failure {
  override readonly name = 'Pop3Error';
  readonly kind: Pop3ErrorKind;
  readonly command: string | undefined;
  readonly responseCode: string | undefined;
  readonly loginDelay: number | undefined;
  readonly lesson: Lesson | undefined;

  constructor(message: string, more: Pop3ErrorDetails) {
    const { kind, command, responseCode, loginDelay, lesson, scope, ...details } = more;
    super(message, { ...details, scope: scope ?? 'account', code: `pop3.${kind}` });
    this.kind = kind;
    this.command = command;
    this.responseCode = responseCode;
    this.loginDelay = loginDelay;
    this.lesson = lesson;
  }
}
