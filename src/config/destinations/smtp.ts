/** The options of a destination that takes mail by SMTP. */

import { isIP } from 'node:net';
import { z } from 'zod';
import type { SmtpConfig } from '../types.ts';
import type { Compiling } from '../compiling.ts';
import {
  countOption,
  durationOption,
  HOUR,
  hostOption,
  isAddress,
  parseHost,
  refuse,
  SECOND,
  secretOption,
  textOption,
  tlsFields,
} from '../fields.ts';
import { wrong } from '../finding.ts';
import type { Finding } from '../finding.ts';
import { securityFindings } from '../security.ts';
import { compileEnvelope, envelopeFields, envelopeFindings } from './envelope.ts';

const PORTS = { tls: 465, starttls: 587, none: 25 } as const;

/** `host` or `host:port`. */
function hostAndPortOption(): z.ZodType<{ host: string; port: number | undefined }, string> {
  return z.string().transform((text, ctx) => {
    const [, front = text, digits] = /^(.*[^:]):(\d{1,5})$/.exec(isIP(text) === 0 ? text : '') ?? [];
    const host = parseHost(front);
    const port = digits === undefined ? undefined : Number(digits);
    if (host !== undefined && !text.includes('/') && port !== 0 && (port ?? 1) <= 65_535) return { host, port };
    return refuse(ctx, 'is no server', 'write it like smtp2.example.com or smtp2.example.com:2525');
  });
}

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
  fallbackHosts: z
    .array(hostAndPortOption())
    .max(10)
    .default([])
    .meta({
      description: 'Further servers, asked in this order when `host` is out of reach. A port may stand behind a colon.',
      examples: [['smtp2.example.com', 'smtp3.example.com:2525']],
    }),
  ...envelopeFields,
  attach: z.boolean().default(false).meta({
    description:
      'Sends each message as an attachment of a new one from your address (`from`), for servers that refuse forwarded mail.',
  }),
  requireTls: z.boolean().default(false).meta({
    description:
      'Asks for TLS on the whole way to the recipient (REQUIRETLS, RFC 8689). Few servers offer that; the others refuse the mail.',
  }),
  concurrency: countOption(1, 1000)
    .default(5)
    .meta({
      description:
        'Connections at a time, over all accounts of this worker; many providers allow few. On each, the next message is announced while the answer to the one before is waited for, where the server pipelines.',
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
  findings.push(...envelopeFindings(options, isWrong));
  if (options.attach === true && !isWrong.has('from') && !isAddress(options.from ?? options.auth?.user ?? '')) {
    findings.push(wrong(['attach'], 'needs an address to write from', 'write an address of your own as `from`'));
  }
  if (options.requireTls === true && options.security === 'none') {
    findings.push(wrong(['requireTls'], 'needs TLS to this server', 'use `security: tls` or `starttls`'));
  }
  return findings;
}

export function compileSmtp(name: string, options: Options, compiling: Compiling): SmtpConfig {
  const otherwise = options.auth?.user ?? 'original';
  const port = options.port ?? PORTS[options.security];
  return {
    type: 'smtp',
    name,
    host: options.host,
    port,
    fallbackHosts: options.fallbackHosts.map((other) => ({ host: other.host, port: other.port ?? port })),
    security: options.security,
    tls: compiling.tls(options),
    auth:
      options.auth === undefined
        ? undefined
        : { user: options.auth.user, password: compiling.secret(options.auth.password, 'auth.password') },
    ...compileEnvelope(options, otherwise, compiling),
    ...(options.attach ? { attachFrom: options.from ?? otherwise } : {}),
    requireTls: options.requireTls,
    concurrency: options.concurrency,
    timeout: options.timeout,
  };
}
