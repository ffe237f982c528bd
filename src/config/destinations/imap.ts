/** The options of a destination that puts mail into a folder by IMAP. */

import { z } from 'zod';
import type { Compiling } from '../compiling.ts';
import {
  countOption,
  durationOption,
  HOUR,
  hostOption,
  refuse,
  SECOND,
  secretOption,
  textOption,
  tlsFields,
} from '../fields.ts';
import type { Finding } from '../finding.ts';
import { securityFindings } from '../security.ts';
import type { ImapConfig } from '../types.ts';

const PORTS = { tls: 993, starttls: 143, none: 143 } as const;

// A pinned certificate cannot be checked before the login with the library in use: no option rather than an empty promise.
const { fingerprint: _, ...tls } = tlsFields;

export const imapSchema = z.strictObject({
  type: z.literal('imap').meta({
    description:
      'Puts mail into a folder of a mailbox (IMAP APPEND), as it is: no SPF, DKIM or DMARC is asked about there. Up to 100 MB a message.',
  }),
  host: hostOption().meta({ description: 'The IMAP server: a name or an IP address.', examples: ['imap.gmail.com'] }),
  port: countOption(1, 65_535)
    .optional()
    .meta({
      description: 'The port of the IMAP server.',
      otherwise: '993 with `security: tls`, else 143',
      examples: [993],
    }),
  ...tls,
  auth: z
    .strictObject({
      user: textOption().meta({ description: 'The name to log in with.', examples: ['you@gmail.com'] }),
      password: secretOption().meta({
        description: 'The password; an app password at Gmail and others.',
        examples: [{ env: 'IMAP_PASSWORD' }],
      }),
    })
    .meta({ description: 'The login.', examples: [{ user: 'you@gmail.com', password: { env: 'IMAP_PASSWORD' } }] }),
  folder: textOption()
    .default('INBOX')
    .meta({ description: 'The folder, which is made if it does not exist.', examples: ['Old mail'] }),
  flags: z
    .array(
      z.string().transform((text, ctx) => {
        if (/^(?:\\(?:Seen|Flagged|Answered|Draft)|[!#$&'+-Z^-z|}~][!#$&'+-Z^-z|}~]*)$/i.test(text)) return text;
        return refuse(ctx, 'is no flag', 'write \\Seen, \\Flagged, \\Answered, \\Draft or a keyword without blanks');
      }),
    )
    .default([])
    .meta({ description: 'Flags that each message gets.', examples: [['\\Seen']] }),
  concurrency: countOption(1, 50)
    .default(2)
    .meta({
      description: 'Deliveries at a time, over all accounts of this worker. Many providers allow few.',
      examples: [2],
    }),
  timeout: durationOption([SECOND, HOUR])
    .prefault('10m')
    .meta({ description: 'The longest one delivery may take.', examples: ['5m'] }),
});

type Options = z.output<typeof imapSchema>;

export function imapFindings(options: Partial<Options>): Finding[] {
  return securityFindings(options, true, PORTS);
}

export function compileImap(name: string, options: Options, compiling: Compiling): ImapConfig {
  return {
    type: 'imap',
    name,
    host: options.host,
    port: options.port ?? PORTS[options.security],
    security: options.security,
    tls: compiling.tls(options),
    auth: { user: options.auth.user, password: compiling.secret(options.auth.password, 'auth.password') },
    folder: options.folder,
    flags: options.flags,
    concurrency: options.concurrency,
    timeout: options.timeout,
  };
}
