/**
 * An alert as a message (RFC 5322): short plain text, ASCII wherever it can be, that no program answers (RFC 3834). Pure. What
 * others wrote is escaped before it comes here.
 */

import { createHash } from 'node:crypto';
import type { Notice, Saying } from './alerts.ts';

/** An alert on its way, as it is kept until it is delivered or given up. */
export interface Alert {
  /** Letters and digits. */
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly subject: string;
  readonly text: string;
}

/** The alert that says this. @param hostName of the worker that says it */
export function alertOf({ wrong, over }: Pick<Saying, 'wrong' | 'over'>, hostName: string, now: number): Alert {
  const sections = [
    ...(wrong.length === 0 ? [] : ['This needs a person:', '', ...wrong.flatMap(linesOf)]),
    ...(over.length === 0 ? [] : ['This is over:', '', ...over.flatMap(linesOf)]),
    'Mail that is not delivered stays on its POP3 server.',
    `mailferry on ${hostName}, ${stamp(now)}`,
  ];
  const text = `${sections.join('\n')}\n`;
  const id = createHash('sha256').update(`${now}\0${hostName}\0${text}`).digest('hex').slice(0, 32);
  return { id, at: now, subject: subjectOf(wrong, over), text };
}

function subjectOf(wrong: readonly Notice[], over: readonly Notice[]): string {
  const about = ({ subject }: Notice): string => subject.slice(0, subject.lastIndexOf(' '));
  const names = (notices: readonly Notice[]): string => {
    const all = [...new Set(notices.map(about))];
    return all.length > 2 ? `${all[0] ?? ''} and ${all.length - 1} more` : all.join(', ');
  };
  const need = new Set(wrong.map(about)).size === 1 ? 'needs a person' : 'need a person';
  const parts = [
    ...(wrong.length === 0 ? [] : [`${names(wrong)} ${need}`]),
    ...(over.length === 0 ? [] : [`${names(over)}: over`]),
  ];
  return `[mailferry] ${parts.join('; ')}`;
}

function linesOf({ title, remedy, since }: Notice): string[] {
  return [
    `- ${title}`,
    ...(since === 0 ? [] : [`  since ${stamp(since)}`]),
    ...(remedy === '' ? [] : [`  ${remedy}`]),
    '',
  ];
}

function stamp(time: number): string {
  return `${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

/** The octets of the message. @param sender an address @param to addresses; empty: the sender */
export function messageOf(alert: Alert, sender: string, to: readonly string[], hostName: string): Buffer {
  const isAscii = /^[\n\u0020-\u007e]*$/.test(alert.text);
  const header = [
    `Date: ${new Date(alert.at).toUTCString().replace('GMT', '+0000')}`,
    `From: mailferry <${sender}>`,
    `To: ${(to.length === 0 ? [sender] : to).join(',\r\n ')}`,
    `Subject: ${folded(alert.subject)}`,
    `Message-ID: <${alert.id}@${domainOf(sender, hostName)}>`,
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    `Content-Transfer-Encoding: ${isAscii ? '7bit' : 'base64'}`,
  ];
  const crlf = alert.text.replaceAll('\n', '\r\n');
  const base64 = Buffer.from(crlf).toString('base64').replaceAll(/.{76}/g, '$&\r\n');
  return Buffer.from(`${header.join('\r\n')}\r\n\r\n${isAscii ? crlf : `${base64}\r\n`}`);
}

/** Names of entries are ASCII without blanks, and at most 64 characters long (RFC 5322 §2.1.1: lines up to 998). */
function folded(subject: string): string {
  let column = 'Subject: '.length;
  const words = subject.split(' ').map((word) => {
    const isOver = column + word.length + 1 > 78;
    column = isOver ? word.length + 1 : column + word.length + 1;
    return isOver ? `\r\n ${word}` : ` ${word}`;
  });
  return words.join('').trimStart();
}

function domainOf(sender: string, hostName: string): string {
  return sender.slice(sender.lastIndexOf('@') + 1) || hostName;
}
