/** What nodemailer's results and errors say, in our terms (pure). Nothing here decides what they mean for a delivery. */

import type { SMTPConnectionSendInfo, SMTPError } from 'nodemailer/lib/smtp-connection';
import { Failure, reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';
import type { Progress } from './content.ts';
import { wordsOf } from './smtp-outcome.ts';
import type { Ending, Reply, Stage } from './smtp-outcome.ts';
import { tlsRemedy } from './tls.ts';

/** What a reply of 2xx is worth: nothing, if it came before the end of the message. */
export function confirmation(info: SMTPConnectionSendInfo | undefined, progress: Progress): Ending {
  // A reply that was there before the end of the message can be no answer to it.
  if (info === undefined || !progress.complete) {
    return { kind: 'lost', reason: 'the server confirmed a message that it did not have yet', ...progress };
  }
  return { kind: 'accepted', reply: { code: codeOf(info.response), text: info.response } };
}

/** What ended a transaction, of the error that nodemailer gave. */
export function endingOf(error: SMTPError, progress: Progress): Ending {
  if (error.code === 'ESTREAM') return { kind: 'unreadable', reason: reasonOf(error) };
  if (error.code === 'EENVELOPE' && error.command === 'API') return { kind: 'unsendable', reason: reasonOf(error) };
  const text = error.response ?? '';
  const code = codeOf(text);
  // what is neither 4xx nor 5xx is no refusal; after the final dot it leaves the delivery in doubt
  if (code < 400 || code > 599) return { kind: 'lost', reason: lossOf(error), ...progress };
  return { kind: 'refused', stage: stageOf(error, progress), reply: { code, text } };
}

function stageOf(error: SMTPError, progress: Progress): Stage {
  if (progress.started) return 'message';
  if (error.command === 'RCPT TO') return 'rcpt';
  return error.command === 'DATA' ? 'data' : 'mail';
}

function lossOf(error: SMTPError): string {
  if (error.code === 'ETIMEDOUT') return 'the server did not answer in time';
  if (error.response !== undefined) return `the server answered out of turn: ${error.response}`;
  return error.originalCode === undefined ? reasonOf(error) : `the connection broke: ${error.originalCode}`;
}

/** The refusals at RCPT TO, which nodemailer notes in the envelope that it was given. */
export function refusals(wire: object): Map<string, Reply> {
  const { rejectedErrors = [] } = wire as { rejectedErrors?: readonly SMTPError[] };
  const refused = new Map<string, Reply>();
  for (const { recipient, response = '' } of rejectedErrors) {
    if (recipient !== undefined) refused.set(recipient, { code: codeOf(response), text: response });
  }
  return refused;
}

/** The code in front of a reply; 0 if there is none. */
export function codeOf(text: string): number {
  return Number(/^\d{3}/.exec(text)?.[0] ?? 0);
}

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
      remedy: remedy ?? 'Check that this port offers the security that the config names.',
    });
  }
  const words = error.code === 'ETIMEDOUT' ? 'no greeting in time' : printable(reasonOf(error));
  return new Failure(`no SMTP session with ${server}: ${words}`, { ...details, code: 'smtp.session' });
}
