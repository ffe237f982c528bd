/** The demo's mail: what a mailbox of many years holds, each of a kind that forwarders have trouble with. Pure. */

import { createHash } from 'node:crypto';

export interface DemoMail {
  /** What the story calls it. */
  readonly title: string;
  readonly uniqueId: string;
  readonly messageId: string;
  readonly octets: Buffer;
  /** What the SMTP receiver does with it at first: takes it, puts it off once, or refuses it until somebody steps in. */
  readonly atFirst: 'taken' | 'deferred' | 'refused';
}

interface Draft {
  readonly title: string;
  readonly from: string;
  readonly subject: string;
  /** Header fields of the content, an empty line, the body; lines without their ends. */
  readonly content: readonly string[];
  readonly atFirst?: DemoMail['atFirst'];
}

/** Octets of the attachment that makes a message of more than a megabyte. */
const ARCHIVE = 1_200_000;

/** @param date a date-time of RFC 5322 §3.3 that all of them carry */
export function demoMail(date: string): DemoMail[] {
  return drafts().map((draft, index) => composed(draft, index + 1, date));
}

function drafts(): Draft[] {
  return [
    {
      title: 'Plain letter',
      from: 'Robert Hale <robert@hale.example>',
      subject: 'Sunday',
      content: [
        'Content-Type: text/plain; charset=us-ascii',
        '',
        'Dear Jane,',
        '',
        'we will be there on Sunday at noon. I will bring',
        '..the cake, and also what POP3 and SMTP must not stumble over:',
        'a dot alone on its line',
        '.',
        'and trailing blanks   ',
        '',
        'Robert',
      ],
    },
    {
      title: 'HTML with attachment',
      from: 'Northern Rail <tickets@rail.example>',
      subject: 'Your ticket',
      content: ticket(),
    },
    {
      title: '8-bit French',
      from: '=?utf-8?q?Am=C3=A9lie_Lef=C3=A8vre?= <amelie@ecole.example>',
      subject: '=?utf-8?q?No=C3=ABl_=C3=A0_la_for=C3=AAt?=',
      content: [
        'Content-Type: text/plain; charset=utf-8',
        'Content-Transfer-Encoding: 8bit',
        '',
        'Chère Jane,',
        '',
        'on se retrouve à la forêt le 24 décembre : chocolat, crêpes et cœur léger.',
        '',
        'À bientôt, Amélie',
      ],
    },
    {
      title: 'Photos, over a megabyte',
      from: 'Ann Hale <ann@hale.example>',
      subject: 'Photos of the summer',
      content: [
        'Content-Type: application/zip; name="summer.zip"',
        'Content-Disposition: attachment; filename="summer.zip"',
        'Content-Transfer-Encoding: base64',
        '',
        // Octets as an archive has them: no pattern, the same in every run.
        ...base64Lines(createHash('shake256', { outputLength: ARCHIVE }).update('summer').digest()),
      ],
    },
    {
      title: 'Newsletter',
      from: 'The Morning Paper <news@paper.example>',
      subject: 'This week',
      atFirst: 'deferred',
      content: ['Content-Type: text/plain; charset=us-ascii', '', 'All that happened this week, in one page.'],
    },
    {
      title: 'Contract',
      from: 'Hill & Partners <office@hill.example>',
      subject: 'URGENT: please sign today',
      atFirst: 'refused',
      content: ['Content-Type: text/plain; charset=us-ascii', '', 'Please find our offer below, and sign it today.'],
    },
  ];
}

function composed({ title, from, subject, content, atFirst = 'taken' }: Draft, place: number, date: string): DemoMail {
  const sender = /@([^>]+)>$/.exec(from)?.[1] ?? 'sender.example';
  const messageId = `<${createHash('sha256').update(title).digest('hex').slice(0, 16)}@${sender}>`;
  const lines = [
    `Received: from mx.${sender} (mx.${sender} [192.0.2.${String(place)}])`,
    `\tby mx.old-isp.example with ESMTPS id DEMO${String(place)}`,
    `\tfor <jane@old-isp.example>; ${date}`,
    `From: ${from}`,
    'To: Jane Doe <jane@old-isp.example>',
    `Subject: ${subject}`,
    `Date: ${date}`,
    `Message-ID: ${messageId}`,
    'MIME-Version: 1.0',
    ...content,
  ];
  const octets = Buffer.from(lines.map((line) => `${line}\r\n`).join(''), 'utf8');
  return { title, uniqueId: `0000${String(place)}.old-isp`, messageId, octets, atFirst };
}

function ticket(): string[] {
  const calendar = [
    'BEGIN:VCALENDAR',
    'VERSION:2.0',
    'PRODID:-//Northern Rail//Tickets//EN',
    'BEGIN:VEVENT',
    'UID:seat-61@rail.example',
    'DTSTAMP:20260102T090000Z',
    'DTSTART:20261224T081500Z',
    'SUMMARY:Train to the forest, coach 4, seat 61',
    'END:VEVENT',
    'END:VCALENDAR',
    '',
  ].join('\r\n');
  return [
    'Content-Type: multipart/mixed; boundary="=_demo"',
    '',
    '--=_demo',
    'Content-Type: text/html; charset=utf-8',
    'Content-Transfer-Encoding: quoted-printable',
    '',
    '<html><body><h1>Have a good journey</h1>',
    '<p>Coach 4, seat 61 =E2=80=93 your ticket is attached.</p></body></html>',
    '--=_demo',
    'Content-Type: text/calendar; charset=utf-8; name="ticket.ics"',
    'Content-Disposition: attachment; filename="ticket.ics"',
    'Content-Transfer-Encoding: base64',
    '',
    ...base64Lines(Buffer.from(calendar)),
    '--=_demo--',
  ];
}

function base64Lines(octets: Buffer): string[] {
  return octets.toString('base64').match(/.{1,76}/g) ?? [];
}
