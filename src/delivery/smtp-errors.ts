/** What nodemailer's errors say of a connection that did not come about, in our terms (pure). */

import type { SMTPError } from 'nodemailer/lib/smtp-connection';
import { Failure, reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { codeOf, wordsOf } from './smtp-outcome.ts';
import type { Reply } from './smtp-outcome.ts';
import { tlsRemedy } from './tls.ts';

/** Why there is no session, with what to do about it. */
export function setupFailure(error: SMTPError, destination: string, server: string): Failure {
  const reply: Reply | undefined =
    error.response === undefined ? undefined : { code: codeOf(error.response), text: error.response };
  const details = {
    scope: 'destination' as const,
    server,
    ...(reply === undefined ? {} : { said: wordsOf(reply) }),
    cause: error,
  };
  if (error.code === 'EAUTH') {
    const temporary = reply !== undefined && reply.code < 500;
    return new Failure(temporary ? 'login is not possible now' : 'login refused', {
      ...details,
      code: 'smtp.auth',
      permanent: !temporary,
      remedy: temporary ? 'It is tried again.' : `Check auth.user and auth.password of destination ${destination}.`,
    });
  }
  const reason = error.originalCode ?? error.code;
  const remedy = tlsRemedy(reason);
  if (remedy !== undefined || error.code === 'ETLS') {
    const words = reply === undefined ? printable(reasonOf(error)) : 'STARTTLS refused';
    return new Failure(`no TLS with ${server}: ${words}`, {
      ...details,
      code: 'smtp.tls',
      // A connection that broke amid the handshake may go better next time; a certificate will not.
      permanent: remedy !== undefined || (reply !== undefined && reply.code >= 500),
      remedy: remedy ?? 'Check that this port offers the security that the config names.',
    });
  }
  const words = error.code === 'ETIMEDOUT' ? 'no greeting in time' : printable(reasonOf(error));
  return new Failure(`no SMTP session with ${server}: ${words}`, { ...details, code: 'smtp.session' });
}
