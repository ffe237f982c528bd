/** The options of a destination that takes mail as HTTP POST, signed as Standard Webhooks. */

import { z } from 'zod';
import { isLoopback, isPrivateHost } from '../address.ts';
import type { Compiling } from '../compiling.ts';
import { countOption, durationOption, HOUR, refuse, SECOND, secretOption, textOption, tlsFields } from '../fields.ts';
import { doubtful, wrong } from '../finding.ts';
import type { Finding } from '../finding.ts';
import { certificateFindings } from '../security.ts';
import type { WebhookConfig } from '../types.ts';

/** Set by the sender itself, or meaning something to the connection. */
const RESERVED = new Set([
  'connection',
  'content-length',
  'content-type',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'webhook-id',
  'webhook-signature',
  'webhook-timestamp',
]);

/** Standard Webhooks: `whsec_` and base64 of 24 to 64 octets. */
function checkSigningSecret(text: string, ctx: z.RefinementCtx): void {
  const octets = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text)?.[1];
  const length = octets === undefined ? 0 : Buffer.from(octets, 'base64').length;
  if (length < 24 || length > 64) {
    refuse(
      ctx,
      'is no signing secret',
      'write whsec_ and the base64 of 24 to 64 random octets: `echo whsec_$(openssl rand -base64 32)`',
    );
  }
}

const { security: _, ...tls } = tlsFields;

export const webhookSchema = z.strictObject({
  type: z
    .literal('webhook')
    .meta({ description: 'Delivers by HTTP POST. Any 2xx confirms; redirects are not followed.' }),
  url: z
    .string()
    .transform((text, ctx) => {
      const url = URL.parse(text);
      const how = 'write it like https://helpdesk.example.com/inbound';
      if (url === null || !['http:', 'https:'].includes(url.protocol)) return refuse(ctx, 'is no web address', how);
      if (url.username !== '' || url.password !== '') {
        return refuse(ctx, 'holds a name or password', 'send it in a header: `headers: { Authorization: ... }`');
      }
      return text;
    })
    .meta({
      description: 'Where to POST to.',
      examples: ['https://helpdesk.example.com/inbound'],
      writeOnly: true, // many services put a token into the path or the query
    }),
  secret: secretOption(checkSigningSecret)
    .optional()
    .meta({
      description: 'Signs each request (`webhook-signature`, Standard Webhooks): `whsec_` and base64.',
      otherwise: 'unsigned',
      examples: [{ env: 'HELPDESK_SECRET' }],
    }),
  moreSecrets: z
    .array(secretOption(checkSigningSecret))
    .max(5)
    .default([])
    .meta({
      description:
        'Further secrets. Each request carries a signature for every one, so that the receiver can change from the old one to the new one at any time.',
      examples: [[{ env: 'OLD_HELPDESK_SECRET' }]],
    }),
  auth: z
    .union([
      z.strictObject({
        user: textOption().meta({ description: 'The name to log in with.' }),
        password: secretOption().meta({ description: 'The password.' }),
      }),
      z.strictObject({ bearer: secretOption().meta({ description: 'The token.' }) }),
    ])
    .optional()
    .meta({
      description: 'The login, where the receiver wants one: `{ user, password }` (basic) or `{ bearer }`.',
      otherwise: 'no login',
      writeOnly: true, // whatever stands there by mistake may be the password
      examples: [{ bearer: { env: 'HELPDESK_TOKEN' } }],
    }),
  proxy: secretOption()
    .optional()
    .meta({
      description:
        'An HTTP proxy to go through (CONNECT): `http://` or `https://`, user and password included if it wants them. It looks names up, so it must do what `allowPrivate` does.',
      otherwise: 'none',
      examples: [{ env: 'PROXY_URL' }],
    }),
  format: z.enum(['raw', 'json', 'multipart']).default('raw').meta({
    description:
      '`raw`: the body is the message itself (message/rfc822), the rest is in headers. `json`: fields, text, html, attachments and the raw message in base64. `multipart`: the same as a form (multipart/form-data) with a part for each attachment.',
  }),
  headers: z
    .record(z.string(), z.string())
    .superRefine((headers, ctx) => {
      for (const [name, value] of Object.entries(headers)) {
        const add = (message: string, remedy: string): void => {
          ctx.issues.push({ code: 'custom', input: headers, path: [name], message, params: { remedy } });
        };
        if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) add('is no header name', 'use letters, digits and hyphens');
        else if (RESERVED.has(name.toLowerCase())) add('is set by mailferry itself', 'leave it out');
        // oxlint-disable-next-line no-control-regex
        if (/[^\t\u0020-\u007e\u0080-\u00ff]/.test(value)) {
          add('has a value with line breaks or letters outside Latin-1', 'write it in one line of plain text');
        }
      }
    })
    .default({})
    .meta({
      description: 'Further headers of each request, by name.',
      examples: [{ 'X-Mailbox': 'old-isp' }],
      writeOnly: true,
    }),
  allowPrivate: z.boolean().default(false).meta({
    description:
      'Allows loopback and private addresses, such as a service in the same Compose project. Link-local ones are refused always.',
  }),
  ...tls,
  concurrency: countOption(1, 1000)
    .default(10)
    .meta({
      description: 'Requests at a time, over all accounts of this worker.',
      examples: [10],
    }),
  timeout: durationOption([SECOND, HOUR])
    .prefault('2m')
    .meta({
      description: 'The longest one request may take, from connecting to the last octet of the reply.',
      examples: ['30s'],
    }),
});

type Options = z.output<typeof webhookSchema>;

export function webhookFindings(options: Partial<Options>): Finding[] {
  const findings: Finding[] = certificateFindings(options);
  const url = URL.parse(options.url ?? '');
  if (url === null) return findings;
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (options.allowPrivate === false && isPrivateHost(host)) {
    findings.push(
      wrong(['url'], 'is on this host or a private network, which is refused', 'write `allowPrivate: true` beside it'),
    );
  }
  if (url.protocol === 'http:' && !isLoopback(host)) {
    findings.push(
      doubtful(['url'], 'is not encrypted: mail can be read on the way', 'use https:// where the receiver can'),
    );
  }
  return findings;
}

export function compileWebhook(name: string, options: Options, compiling: Compiling): WebhookConfig {
  return {
    type: 'webhook',
    name,
    url: options.url,
    secret: options.secret === undefined ? undefined : compiling.secret(options.secret, 'secret'),
    moreSecrets: options.moreSecrets.map((source, index) => compiling.secret(source, `moreSecrets.${String(index)}`)),
    ...(options.auth === undefined ? {} : { auth: compileAuth(options.auth, compiling) }),
    ...(options.proxy === undefined ? {} : { proxy: compiling.secret(options.proxy, 'proxy') }),
    format: options.format,
    headers: { ...options.headers },
    allowPrivate: options.allowPrivate,
    tls: compiling.tls(options),
    concurrency: options.concurrency,
    timeout: options.timeout,
  };
}

function compileAuth(auth: NonNullable<Options['auth']>, compiling: Compiling): NonNullable<WebhookConfig['auth']> {
  return 'bearer' in auth
    ? { kind: 'bearer', token: compiling.secret(auth.bearer, 'auth.bearer') }
    : { kind: 'basic', user: auth.user, password: compiling.secret(auth.password, 'auth.password') };
}
