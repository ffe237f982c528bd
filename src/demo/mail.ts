/** The demo's mail: real-looking messages of every kind that forwarders have trouble with. Pure. */

export interface DemoMessage {
  readonly title: string;
  readonly octets: Buffer;
  /** True for the one that the SMTP server first puts off. */
  readonly deferredOnce: boolean;
}

const DATE = 'Mon, 02 Nov 2026 09:30:00 +0100';

/** @param host of the senders' Message-IDs */
export function demoMail(host: string): DemoMessage[] {
  const message = (
    title: string,
    from: string,
    subject: string,
    lines: readonly string[],
    deferredOnce = false,
  ): DemoMessage => ({
    title,
    deferredOnce,
    octets: Buffer.from(
      [
        `Received: from mail.${host} by isp.example with ESMTPS; ${DATE}`,
        `From: ${from}`,
        'To: Jane <jane@isp.example>',
        `Subject: ${subject}`,
        `Date: ${DATE}`,
        `Message-ID: <${title.replaceAll(' ', '-')}@${host}>`,
        'MIME-Version: 1.0',
        ...lines,
        '',
      ].join('\r\n'),
      'latin1',
    ),
  });
  return [
    message('plain letter', 'Uncle Bob <bob@family.example>', 'Sunday', [
      'Content-Type: text/plain; charset=us-ascii',
      '',
      'Dear Jane,',
      '.this line starts with a dot, and the next one is a dot alone:',
      '.',
      'See you on Sunday. Bob',
    ]),
    message('HTML with attachment', 'Shop <orders@shop.example>', 'Your invoice', invoice()),
    message('8-bit umlauts', 'J\u00fcrgen <j@verein.example>', 'Einladung', [
      'Content-Type: text/plain; charset=iso-8859-1',
      'Content-Transfer-Encoding: 8bit',
      '',
      'Gr\u00fc\u00dfe aus K\u00f6ln, bis n\u00e4chste Woche!',
    ]),
    message('photo over a megabyte', 'Ann <ann@family.example>', 'The photo', photo()),
    message(
      'greylisted newsletter',
      'News <news@paper.example>',
      'This week',
      ['Content-Type: text/plain', '', 'All the news of this week.'],
      true,
    ),
  ];
}

function invoice(): string[] {
  return [
    'Content-Type: multipart/mixed; boundary="b1"',
    '',
    '--b1',
    'Content-Type: text/html; charset=utf-8',
    '',
    '<h1>Thank you</h1><p>Your invoice is attached.</p>',
    '--b1',
    'Content-Type: application/pdf; name="invoice.pdf"',
    'Content-Disposition: attachment; filename="invoice.pdf"',
    'Content-Transfer-Encoding: base64',
    '',
    ...base64Lines(4096),
    '--b1--',
  ];
}

function photo(): string[] {
  return [
    'Content-Type: image/jpeg; name="photo.jpg"',
    'Content-Transfer-Encoding: base64',
    '',
    ...base64Lines(1_200_000),
  ];
}

/** Octets that look like none in particular, as lines of base64. */
function base64Lines(count: number): string[] {
  const octets = Buffer.from(Array.from({ length: count }, (_, index) => (index * 167 + (index >> 7) * 31) & 0xff));
  return octets.toString('base64').match(/.{1,76}/g) ?? [];
}
