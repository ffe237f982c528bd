/** The options of an account: type, default and meaning, in one table. */

import { isIP } from 'node:net';
import { z } from 'zod';
import { refuseSchedule, refuseTimezone } from './cron.ts';
import type { Refusal } from './cron.ts';
import {
  countOption,
  DAY,
  durationOption,
  hostOption,
  MINUTE,
  NAME_PATTERN,
  refuse,
  SECOND,
  secretOption,
  sizeOption,
  textOption,
  tlsFields,
} from './fields.ts';
import { ruleSchema } from './rule.ts';

/** Text that `refusal` may have something against. */
function checkedText(refusal: (text: string) => Refusal | undefined): z.ZodType<string, string> {
  return z.string().transform((text, ctx) => {
    const reason = text === '' ? { message: 'is empty', remedy: 'leave the field out' } : refusal(text);
    return reason === undefined ? text : refuse(ctx, reason.message, reason.remedy);
  });
}

function refuseProxy(text: string): Refusal | undefined {
  const url = URL.parse(text);
  const known = url !== null && ['socks5:', 'http:'].includes(url.protocol) && url.hostname !== '';
  return known && url.pathname.length <= 1 && url.search === '' && url.hash === ''
    ? undefined
    : {
        message: 'is no proxy',
        remedy: 'write socks5://HOST:PORT or http://HOST:PORT, with USER:PASSWORD@ if it wants that',
      };
}

export const MECHANISMS = [
  'user',
  'apop',
  'plain',
  'login',
  'cram-md5',
  'scram-sha-1',
  'scram-sha-256',
  'xoauth2',
  'oauthbearer',
  'external',
] as const;

export const accountSchema = z.strictObject({
  host: hostOption().meta({ description: 'The POP3 server: a name or an IP address.', examples: ['pop.isp.example'] }),
  port: countOption(1, 65_535)
    .optional()
    .meta({
      description: 'The port of the POP3 server.',
      otherwise: '995 with `security: tls`, else 110',
      examples: [995],
    }),
  ...tlsFields,
  user: textOption().meta({
    description: 'The name to log in with; at many providers the whole address.',
    examples: ['jane@isp.example'],
  }),
  password: secretOption()
    .optional()
    .meta({
      description: 'The password, read anew at each poll, so that a changed file counts at once.',
      otherwise: 'none, but needed unless there is an `accessToken` or `mechanism: external`',
      examples: [{ env: 'ISP_PASSWORD' }],
    }),
  accessToken: secretOption()
    .optional()
    .meta({
      description:
        'An OAuth 2.0 access token in place of a password, for Gmail, Outlook and others. Read anew at each poll: a `command` that gets a fresh one, or a `file` that another program keeps fresh.',
      examples: [{ command: ['/etc/mailferry/token', 'jane@outlook.example'] }],
    }),
  mechanism: z
    .enum(MECHANISMS)
    .optional()
    .meta({
      description:
        'How to log in, for servers that offer what they cannot do: the only way that is tried. `xoauth2` and `oauthbearer` need an `accessToken`, `external` needs `certFile` and `keyFile` and no password, all others the password.',
      otherwise: 'the strongest that both sides know',
      examples: ['plain'],
    }),
  schedule: checkedText(refuseSchedule)
    .optional()
    .meta({
      description:
        'When to poll: a cron expression of five fields (minute, hour, day of month, month, day of week), or six with seconds in front. Takes the place of `every`.',
      otherwise: '`every: 5m`',
      examples: ['*/5 * * * *'],
    }),
  timezone: checkedText(refuseTimezone)
    .optional()
    .meta({
      description: 'The time zone that `schedule` is meant in.',
      otherwise: 'that of the host',
      examples: ['Europe/Paris'],
    }),
  every: durationOption([10 * SECOND, 30 * DAY])
    .optional()
    .meta({
      description: 'How long from one poll to the next, 10s to 30d. Takes the place of `schedule`.',
      otherwise: '5m',
      examples: ['2m'],
    }),
  deliverTo: z
    .array(z.union([z.string().meta({ pattern: NAME_PATTERN }), ruleSchema]))
    .min(1)
    .meta({
      description:
        'The destinations that each message goes to. It is deleted only when all of them have confirmed it. In place of a name a rule may stand: `{ if: { from: "*@shop.example" }, to: [orders], else: [me] }`; with `optional: true` its destinations do not hold up the delete once another has confirmed, and with `fallback: NAME` that one is used where they reject a message.',
      examples: [['me']],
    }),
  retention: z
    .union([z.enum(['delete', 'keep']), z.strictObject({ deleteAfter: durationOption([MINUTE, 3650 * DAY]) })])
    .prefault('delete')
    .meta({
      description:
        'What becomes of a message that all destinations have confirmed: `delete` it from the server, `keep` it there, or `{ deleteAfter: 30d }` to delete it that long after it was first seen.',
      examples: [{ deleteAfter: '30d' }],
    }),
  firstPoll: z.enum(['deliver', 'skip']).default('deliver').meta({
    description:
      'What happens to messages that lie on the server before the first poll: `deliver` or `skip` them. Skipped ones stay there.',
  }),
  maxMessageSize: sizeOption([1024, 1024 ** 3])
    .prefault('50MB')
    .meta({
      description: 'A larger message is left on the server and shown as quarantined.',
      examples: ['25MB'],
    }),
  maxMessagesPerPoll: countOption(1, 100_000)
    .default(5000)
    .meta({
      description:
        'Messages retrieved in one session; what remains comes in a further one at once, as it does after five minutes (unless the server wants time between logins).',
      examples: [200],
    }),
  giveUpAfter: durationOption([MINUTE, 365 * DAY])
    .prefault('5d')
    .meta({
      description:
        'How long a delivery that fails for now is tried again, counted from its first attempt, or the first one after a person had it tried again. Then it is quarantined, never deleted.',
      examples: ['2d'],
    }),
  timeout: durationOption([SECOND, 30 * MINUTE])
    .prefault('2m')
    .meta({
      description: 'The longest wait for one reply of the server.',
      examples: ['30s'],
    }),
  proxy: checkedText(refuseProxy)
    .optional()
    .meta({
      description: 'Connect through this proxy: `socks5://HOST:PORT` or `http://HOST:PORT` (CONNECT).',
      examples: ['socks5://127.0.0.1:1080'],
      writeOnly: true, // USER:PASSWORD@
    }),
  sourceAddress: z
    .string()
    .transform((text, ctx) =>
      isIP(text) === 0 ? refuse(ctx, 'is no IP address', 'write an address of this host, such as 192.0.2.7') : text,
    )
    .optional()
    .meta({ description: 'The local IP address to connect from.', examples: ['192.0.2.7'] }),
});

export type AccountOptions = z.output<typeof accountSchema>;

/** What accounts may share: all but who they are. */
export const defaultsSchema = accountSchema.omit({ user: true, password: true, accessToken: true }).partial();

/** An account as a person writes it: `defaults` may hold what the full account needs. */
export const accountEntrySchema = accountSchema.partial({ host: true, deliverTo: true });
