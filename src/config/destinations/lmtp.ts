/** The options of a destination that takes mail by LMTP: a mail store such as Dovecot. */

import { z } from 'zod';
import { isLoopback } from '../address.ts';
import type { Compiling } from '../compiling.ts';
import { countOption, durationOption, fileOption, HOUR, hostOption, SECOND, tlsFields } from '../fields.ts';
import { doubtful, wrong } from '../finding.ts';
import type { Finding } from '../finding.ts';
import { certificateFindings } from '../security.ts';
import type { LmtpConfig } from '../types.ts';
import { compileEnvelope, envelopeFields, envelopeFindings } from './envelope.ts';

const PORT = 24;

export const lmtpSchema = z.strictObject({
  type: z.literal('lmtp').meta({ description: 'Delivers by LMTP, to a mail store such as Dovecot.' }),
  host: hostOption()
    .optional()
    .meta({
      description: 'The LMTP server: a name or an IP address.',
      otherwise: 'none; this or `socket`',
      examples: ['dovecot'],
    }),
  port: countOption(1, 65_535)
    .default(PORT)
    .meta({ description: 'The port of the LMTP server.', examples: [24] }),
  socket: fileOption()
    .optional()
    .meta({
      description: 'The Unix socket of the LMTP server.',
      otherwise: 'none; this or `host`',
      examples: ['/run/dovecot/lmtp'],
    }),
  ...tlsFields,
  security: tlsFields.security.removeDefault().default('none').meta({
    description:
      '`tls`: encrypted from the first octet. `starttls`: turned into TLS before anything else is said. `none`: not encrypted, for a server on this host or in a network of your own.',
  }),
  ...envelopeFields,
  from: envelopeFields.from.unwrap().default('original').meta({
    description:
      "The reverse-path (envelope sender), which becomes `Return-Path`: `original` for the message's own, an address, or `srs`.",
  }),
  concurrency: countOption(1, 1000)
    .default(5)
    .meta({
      description:
        'Connections at a time, over all accounts of this worker; the next message is announced as with `smtp`.',
      examples: [5],
    }),
  timeout: durationOption([SECOND, 6 * HOUR])
    .prefault('15m')
    .meta({ description: 'The longest one delivery may take.', examples: ['5m'] }),
});

type Options = z.output<typeof lmtpSchema>;

export function lmtpFindings(options: Partial<Options>, isWrong: ReadonlySet<string>): Finding[] {
  const { host, socket, security } = options;
  const findings = [...certificateFindings(options), ...envelopeFindings(options, isWrong)];
  if (host === undefined && socket === undefined && !isWrong.has('host') && !isWrong.has('socket')) {
    findings.push(wrong(['host'], 'is missing', 'write the server as `host`, or its Unix socket as `socket`'));
  }
  if (host !== undefined && socket !== undefined) {
    findings.push(wrong(['socket'], 'stands beside `host`', 'write one of the two'));
  }
  if (host !== undefined && security === 'none' && !isLoopback(host)) {
    findings.push(
      doubtful(['security'], 'sends all mail unencrypted', 'use starttls or tls unless the network is yours'),
    );
  }
  return findings;
}

export function compileLmtp(name: string, options: Options, compiling: Compiling): LmtpConfig {
  const { host, socket } = options;
  return {
    type: 'lmtp',
    name,
    place: socket === undefined ? { host: host ?? 'localhost', port: options.port } : { path: compiling.path(socket) },
    security: options.security,
    tls: compiling.tls(options),
    auth: undefined,
    ...compileEnvelope(options, 'original', compiling),
    concurrency: options.concurrency,
    timeout: options.timeout,
  };
}
