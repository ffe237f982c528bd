/**
 * The types that options are made of. Each checks one value, turns it into base units, and says in words what is wrong
 * and what would be right. `meta` beside the check is what the reference page and the JSON Schema are made from.
 */

import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { z } from 'zod';
import { DURATION_PATTERN, parseDuration, printDuration } from './duration.ts';
import { parseSize, printSize, SIZE_PATTERN } from './size.ts';

/** The keys of `meta` that are ours; they are taken out of the published JSON Schema. */
export interface OptionMeta {
  /** What the type is called in the reference, where it is more than text or a number. */
  readonly kind?: 'duration' | 'size' | 'secret' | 'file' | 'address' | 'host';
  /** The default in words, where it depends on something. */
  readonly otherwise?: string;
  /** Values that hold credentials and are never shown. */
  readonly writeOnly?: true;
}

/** Refuses a value. The message is said of the value: `is no host name`. */
export function refuse(ctx: z.RefinementCtx, message: string, remedy: string): never {
  ctx.issues.push({ code: 'custom', input: ctx.value, message, params: { remedy } });
  return z.NEVER;
}

/** Text that `parse` turns into a number, between two limits, both included. */
function measure(
  pattern: string,
  kind: 'duration' | 'size',
  parse: (text: string) => number | undefined,
  print: (value: number) => string,
  [least, most]: readonly [number, number],
): z.ZodType<number, string> {
  const sample = kind === 'duration' ? '90s, 5m, 12h or 30d' : '64KB, 25MB or 1GB';
  return z
    .string()
    .meta({ pattern })
    .transform((text, ctx) => {
      const value = parse(text);
      if (value === undefined) return refuse(ctx, `is no ${kind}`, `write a whole number and a unit: ${sample}`);
      const range = `use ${print(least)} to ${print(most)}`;
      if (value < least) return refuse(ctx, `is under ${print(least)}`, range);
      if (value > most) return refuse(ctx, `is over ${print(most)}`, range);
      return value;
    })
    .meta({ kind });
}

/** Milliseconds. */
export function durationOption(limits: readonly [number, number]): z.ZodType<number, string> {
  return measure(DURATION_PATTERN, 'duration', parseDuration, printDuration, limits);
}

/** Octets. */
export function sizeOption(limits: readonly [number, number]): z.ZodType<number, string> {
  return measure(SIZE_PATTERN, 'size', parseSize, printSize, limits);
}

export function countOption(least: number, most: number): z.ZodInt {
  return z.int().min(least).max(most);
}

/** Text with at least one character, and no line breaks. */
export function textOption(): z.ZodType<string, string> {
  return z
    .string()
    .meta({ minLength: 1 })
    .transform((text, ctx) => {
      if (text === '') return refuse(ctx, 'is empty', 'write a value, or leave the field out');
      // oxlint-disable-next-line no-control-regex
      if (/[\u0000-\u001f\u007f]/.test(text)) {
        return refuse(ctx, 'has a line break or another control character', 'write it in one line');
      }
      return text;
    });
}

const LABEL = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

/** A host name (international ones in ASCII) or an IP address without brackets; undefined if it is neither. */
export function parseHost(text: string): string | undefined {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (isIP(bare) !== 0) return bare;
  const ascii = domainToASCII(text);
  const labels = ascii.replace(/\.$/, '').split('.');
  // digits and dots alone are a mistyped address
  if (ascii === '' || ascii.length > 253 || /^[\d.]+$/.test(ascii) || !labels.every((label) => LABEL.test(label))) {
    return undefined;
  }
  return ascii;
}

export function hostOption(): z.ZodType<string, string> {
  return z
    .string()
    .transform((text, ctx) => {
      const host = parseHost(text);
      if (host !== undefined && !text.includes('/')) return host;
      if (text.includes('://')) return refuse(ctx, 'is a URL', 'write the host name alone, such as mail.example.com');
      if (/^[^:]+:\d+$/.test(text)) {
        return refuse(ctx, 'holds a port', 'write the host name alone, and the port in the field `port`');
      }
      return refuse(ctx, 'is no host name or address', 'write a name such as mail.example.com, or an IP address');
    })
    .meta({ kind: 'host' });
}

const LOCAL_PART = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/;

/** True for an address of RFC 5321 §4.1.2 with a dot-string before the `@`. */
export function isAddress(text: string): boolean {
  const at = text.lastIndexOf('@');
  const local = text.slice(0, at);
  const domain = text.slice(at + 1);
  const literal = /^\[(?:IPv6:)?(.+)\]$/i.exec(domain)?.[1];
  const knownDomain =
    literal === undefined ? parseHost(domain) === domain.toLowerCase() && isIP(domain) === 0 : isIP(literal) !== 0;
  return at > 0 && local.length <= 64 && LOCAL_PART.test(local) && knownDomain;
}

/** Says why an address is none. */
export function refuseAddress(text: string, ctx: z.RefinementCtx): never {
  if (/<[^>]*>/.test(text)) {
    return refuse(ctx, 'holds a name beside the address', 'write the address alone, such as me@example.com');
  }
  if (/[,;]/.test(text)) return refuse(ctx, 'holds more than one address', 'write one address an item of the list');
  if (/\P{ASCII}/u.test(text)) {
    return refuse(
      ctx,
      'holds letters outside ASCII',
      'write the domain in its xn-- form and the part before @ in ASCII',
    );
  }
  return refuse(ctx, 'is no e-mail address', 'write it like me@example.com');
}

export function addressOption(): z.ZodType<string, string> {
  return z
    .string()
    .transform((text, ctx) => (isAddress(text) ? text : refuseAddress(text, ctx)))
    .meta({ kind: 'address' });
}

/** A path, relative to the folder of the config. */
export function fileOption(): z.ZodType<string, string> {
  return textOption().meta({ kind: 'file' });
}

export const NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$';

const ENV_NAME = '^[A-Za-z_][A-Za-z0-9_]*$';

/** Where a secret comes from: as it is written in the config. */
export type SecretSource =
  | string
  | { readonly env: string }
  | { readonly file: string }
  | { readonly command: readonly string[] };

/** A secret: plain text or where to get it. Its value never appears in a problem. */
export function secretOption(check?: (plain: string, ctx: z.RefinementCtx) => unknown): z.ZodType<SecretSource> {
  const plain = z
    .string()
    .meta({ minLength: 1 })
    .superRefine((text, ctx) => {
      if (text === '') refuse(ctx, 'is empty', 'write { env: NAME }, { file: PATH } or { command: [PROGRAM, ARG] }');
      else check?.(text, ctx);
    });
  const env = z
    .string()
    .meta({ pattern: ENV_NAME, description: 'The name of an environment variable.' })
    .superRefine((name, ctx) => {
      if (!new RegExp(ENV_NAME).test(name)) {
        refuse(ctx, 'is no name of an environment variable', 'write the name alone, such as { env: SMTP_PASSWORD }');
      }
    });
  const file = z.string().meta({ minLength: 1, description: 'A file whose first line is the secret.' });
  const command = z
    .array(z.string())
    .min(1)
    .meta({ description: 'A program and its arguments (no shell); the first line it prints is the secret.' });
  return z
    .union([plain, z.strictObject({ env }), z.strictObject({ file }), z.strictObject({ command })])
    .meta({ kind: 'secret', writeOnly: true });
}

const DAY = 86_400_000;

/** Common to accounts and destinations: how the server is reached and verified. */
export const tlsFields = {
  security: z.enum(['tls', 'starttls', 'none']).default('tls').meta({
    description:
      '`tls`: encrypted from the first octet. `starttls`: the connection is turned into TLS before anything else is said, or given up. `none`: not encrypted; the password and all mail can be read on the way.',
  }),
  caFile: fileOption()
    .optional()
    .meta({
      description: "PEM file of authorities that replaces the system's, for servers with a certificate of their own.",
      examples: ['isp-ca.pem'],
    }),
  fingerprint: z
    .string()
    .transform((text, ctx) => {
      const digits = text
        .replace(/^.*[=]|^sha-?256:/i, '')
        .replaceAll(/[:\s]/g, '')
        .toLowerCase();
      if (/^[0-9a-f]{64}$/.test(digits)) return digits;
      const how = 'write the 64 hexadecimal digits that `openssl x509 -noout -fingerprint -sha256` prints';
      if (/^[0-9a-f]{40}$/.test(digits)) return refuse(ctx, 'is a SHA-1 fingerprint', how);
      if (/^[0-9a-f]{32}$/.test(digits)) return refuse(ctx, 'is an MD5 fingerprint', how);
      return refuse(ctx, 'is no SHA-256 fingerprint', how);
    })
    .optional()
    .meta({
      description:
        "SHA-256 of the server's certificate, with or without colons. Replaces the check of authority and name, so it must be changed when the server's certificate changes.",
      examples: ['9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08'],
    }),
  serverName: hostOption()
    .optional()
    .meta({
      description: "The name to ask for and to find in the server's certificate, where that is not `host`.",
      examples: ['mail.isp.example'],
    }),
  certFile: fileOption()
    .optional()
    .meta({
      description: 'PEM file of a client certificate, for servers that want one; needs `keyFile`.',
      examples: ['client.pem'],
    }),
  keyFile: fileOption()
    .optional()
    .meta({
      description: 'PEM file of the key of `certFile`.',
      examples: ['client.key'],
    }),
};

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export { DAY };
