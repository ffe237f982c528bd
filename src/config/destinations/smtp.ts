/** The options of a destination that takes mail by SMTP. */

import { z } from 'zod';
import type { SmtpConfig } from '../types.ts';
import type { Compiling } from '../compiling.ts';
import {
  addressOption,
  countOption,
  durationOption,
  HOUR,
  hostOption,
  isAddress,
  refuse,
  refuseAddress,
  SECOND,
  secretOption,
  textOption,
  tlsFields,
} from '../fields.ts';
import { doubtful, wrong } from '../finding.ts';
import type { Finding } from '../finding.ts';
import { securityFindings } from '../security.ts';

/** RFC 5321 §4.5.3.1.8: a server takes at least 100 recipients a message. */
const MOST_RECIPIENTS = 100;

const PORTS = { tls: 465, starttls: 587, none: 25 } as const;

export const smtpSchema = z.strictObject({
  type: z.literal('smtp').meta({ description: 'Delivers by SMTP, to a mail server or a submission service.' }),
  host: hostOption().meta({ description: 'The SMTP server: a name or an IP address.', examples: ['smtp.example.com'] }),
  port: countOption(1, 65_535)
    .optional()
    .meta({
      description: 'The port of the SMTP server.',
      otherwise: '465 with `security: tls`, 587 with `starttls`, 25 with `none`',
      examples: [465],
    }),
  ...tlsFields,
  auth: z
    .strictObject({
      user: textOption().meta({ description: 'The name to log in with.', examples: ['me@example.com'] }),
      password: secretOption().meta({ description: 'The password.', examples: [{ env: 'SMTP_PASSWORD' }] }),
    })
    .optional()
    .meta({
      description: 'The login, where the server wants one.',
      otherwise: 'no login',
      examples: [{ user: 'me@example.com', password: { env: 'SMTP_PASSWORD' } }],
    }),
  to: z
    .array(addressOption())
    .min(1)
    .max(MOST_RECIPIENTS)
    .meta({ description: 'The recipients. Each is confirmed on its own.', examples: [['me@example.com']] }),
  from: z
    .string()
    .transform((text, ctx) => {
      if (text === 'original' || isAddress(text)) return text;
      if (text !== 'srs') return refuseAddress(text, ctx);
      return refuse(ctx, 'is not supported', 'write an address of your own, or `original`');
    })
    .optional()
    .meta({
      description:
        "The reverse-path (envelope sender): an address of your own, which passes SPF, or `original` for the message's own.",
      otherwise: '`auth.user` where that is an address, else it must be given',
      examples: ['forwarder@example.com'],
    }),
  trace: z
    .boolean()
    .default(true)
    .meta({ description: 'Adds one `Received:` field on top; nothing else of the message is changed.' }),
  helo: hostOption()
    .optional()
    .meta({
      description: 'The name to greet the server with.',
      otherwise: "the host's own",
      examples: ['ferry.example.com'],
    }),
  concurrency: countOption(1, 1000)
    .default(5)
    .meta({
      description: 'Deliveries at a time, over all accounts of this worker. Many providers allow few.',
      examples: [5],
    }),
  timeout: durationOption([SECOND, 6 * HOUR])
    .prefault('15m')
    .meta({
      description: 'The longest one delivery may take, all waiting included.',
      examples: ['5m'],
    }),
});

type Options = z.output<typeof smtpSchema>;

export function smtpFindings(options: Partial<Options>, isWrong: ReadonlySet<string>): Finding[] {
  const findings = securityFindings(options, options.auth !== undefined, PORTS);
  if (options.from === undefined && !isWrong.has('auth') && !isAddress(options.auth?.user ?? '')) {
    findings.push(wrong(['from'], 'is missing', 'write an address of your own as reverse-path, or `original`'));
  }
  const seen = new Set<string>();
  for (const [index, address] of (options.to ?? []).entries()) {
    const key = address.toLowerCase();
    if (seen.has(key)) findings.push(doubtful(['to', index], 'is in the list twice', 'remove one; it gets one copy'));
    seen.add(key);
  }
  return findings;
}

export function compileSmtp(name: string, options: Options, compiling: Compiling): SmtpConfig {
  const from = options.from ?? options.auth?.user ?? 'original';
  return {
    type: 'smtp',
    name,
    host: options.host,
    port: options.port ?? PORTS[options.security],
    security: options.security,
    tls: compiling.tls(options),
    auth:
      options.auth === undefined
        ? undefined
        : { user: options.auth.user, password: compiling.secret(options.auth.password, 'auth.password') },
    to: [...new Map(options.to.map((address) => [address.toLowerCase(), address])).values()],
    from: from === 'original' ? { kind: 'original' } : { kind: 'address', address: from },
    trace: options.trace,
    helo: options.helo,
    concurrency: options.concurrency,
    timeout: options.timeout,
  };
}
