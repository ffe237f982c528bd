/**
 * The whole config in one schema: the root's own options here, accounts and destinations from their files. Types,
 * defaults, checks, the JSON Schema and the reference page all come from it; nothing else knows an option's name.
 */

import { z } from 'zod';
import { accountEntrySchema, defaultsSchema } from './account.ts';
import { isLoopback } from './address.ts';
import { destinationSchema } from './destinations/kinds.ts';
import {
  addressOption,
  countOption,
  DAY,
  HOUR,
  durationOption,
  fileOption,
  NAME_PATTERN,
  parseHost,
  refuse,
  SECOND,
  secretOption,
  sizeOption,
} from './fields.ts';
import { wrong } from './finding.ts';
import type { Finding } from './finding.ts';

/** `HOST:PORT`; undefined if it is not. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const match = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(text);
  const host = parseHost(match?.[1] ?? '');
  const port = Number(match?.[2]);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

const name = z.string().meta({ pattern: NAME_PATTERN });

/** All but `destinations` and `accounts`, whose entries stand or fall one by one. */
export const settingsSchema = z.strictObject({
  dataDir: fileOption()
    .optional()
    .meta({
      description:
        'The folder for what must outlive a restart: the embedded Redis, large messages on their way, markers of accounts.',
      otherwise:
        '`MAILFERRY_DATA_DIR` (the container image sets it to `/data`), else `STATE_DIRECTORY` (set by systemd), else `$XDG_STATE_HOME/mailferry`, else `~/.local/state/mailferry`',
      examples: ['/data'],
    }),
  redis: z
    .strictObject({
      url: secretOption((text, ctx) => {
        const url = URL.parse(text);
        if (url !== null && ['redis:', 'rediss:'].includes(url.protocol)) return;
        refuse(ctx, 'is no Redis URL', 'write redis://HOST:PORT/DATABASE, or rediss:// for TLS');
      })
        .optional()
        .meta({
          description: '`redis://` or `rediss://` URL; the whole URL is a secret.',
          examples: ['redis://redis:6379/0'],
        }),
      socket: fileOption()
        .optional()
        .meta({
          description: 'The Unix socket of a Redis on this host, in place of `url`.',
          examples: ['/run/redis/redis.sock'],
        }),
    })
    .optional()
    .meta({
      description: 'A Redis that you run, which any number of workers may share.',
      otherwise: 'an embedded one under `dataDir`',
      examples: [{ url: 'redis://redis:6379/0' }],
    }),
  http: z
    .strictObject({
      listen: z
        .string()
        .transform((text, ctx) => parseListen(text) ?? refuse(ctx, 'is no HOST:PORT', 'write it like 127.0.0.1:8080'))
        .meta({ description: 'The address to listen on, as HOST:PORT.', examples: ['127.0.0.1:8080'] }),
      token: secretOption()
        .optional()
        .meta({
          description: 'What callers must send as `Authorization: Bearer`. Required beyond loopback.',
          otherwise: 'none',
          examples: [{ file: '/run/secrets/http-token' }],
        }),
    })
    .optional()
    .meta({
      description: 'Serves health and metrics by HTTP.',
      otherwise: 'no HTTP',
      examples: [{ listen: '127.0.0.1:8080' }],
    }),
  alerts: z
    .strictObject({
      deliverTo: z
        .array(name)
        .min(1)
        .max(10)
        .meta({
          description: 'Names of destinations. Each gets every alert, unless it is paused itself: name two if you can.',
          examples: [['me']],
        }),
      after: durationOption([SECOND, 7 * DAY])
        .prefault('30m')
        .meta({
          description:
            'An account in trouble or a paused destination is told of when that has lasted this long. Quarantined mail, a lost ledger and a destination that is gone for good are told of at once.',
          examples: ['2h'],
        }),
      from: addressOption()
        .optional()
        .meta({
          description: 'The address in `From:` of an alert. The reverse-path is null in any case.',
          otherwise: "the destination's own address",
          examples: ['mailferry@example.com'],
        }),
    })
    .optional()
    .meta({
      description: 'Sends what needs a person to destinations, and once more when it works again.',
      otherwise: 'only the log, `status` and the metrics tell',
      examples: [{ deliverTo: ['me'], after: '30m' }],
    }),
  log: z
    .strictObject({
      level: z
        .enum(['debug', 'info', 'warn', 'error'])
        .default('info')
        .meta({ description: 'The least severe events that are logged.' }),
    })
    .prefault({})
    .meta({ description: 'What is logged.', examples: [{ level: 'debug' }] }),
  history: z
    .strictObject({
      keep: durationOption([HOUR, 3650 * DAY])
        .prefault('90d')
        .meta({ description: 'Events older than this go.', examples: ['365d'] }),
      events: countOption(100, 10_000_000)
        .default(10_000)
        .meta({ description: 'The newest events that are kept of each account; some more may stay.' }),
    })
    .prefault({})
    .meta({
      description: 'How much of the audit trail (`mailferry log`) is kept. An event takes some 200 octets in Redis.',
      examples: [{ keep: '30d', events: 100_000 }],
    }),
  concurrency: countOption(1, 10_000)
    .default(50)
    .meta({
      description: 'Accounts polled at a time by this worker.',
      examples: [20],
    }),
  memoryBudget: sizeOption([1024 ** 2, 64 * 1024 ** 3])
    .prefault('64MB')
    .meta({
      description: 'Octets of messages held in memory at a time; what is over it waits, or goes by way of `dataDir`.',
      examples: ['256MB'],
    }),
  spoolBudget: sizeOption([1024 ** 2, 10 * 1024 ** 4])
    .prefault('2GB')
    .meta({
      description:
        'Octets of large messages under `dataDir/spool` at a time; what is over it waits on its server. One message of each session may always be on its way.',
      examples: ['500MB'],
    }),
  limits: z
    .strictObject({
      sessionsPerServer: countOption(1, 10_000)
        .optional()
        .meta({
          description:
            'POP3 sessions at a time at one server (host and port). An account that finds none free comes again a few seconds later, and holds up no other meanwhile.',
          otherwise: 'no limit but `concurrency`',
          examples: [10],
        }),
      deliveriesPerDestination: countOption(1, 10_000)
        .optional()
        .meta({
          description:
            "Deliveries at a time to one destination, beside the destination's own `concurrency`, which is of one worker.",
          otherwise: 'no limit',
          examples: [20],
        }),
    })
    .prefault({})
    .meta({
      description: 'Limits over all workers on one Redis.',
      examples: [{ sessionsPerServer: 10 }],
    }),
  defaults: defaultsSchema.prefault({}).meta({
    description:
      'Options for all accounts that do not set them themselves: all of those of an account but `user` and `password`.',
    examples: [{ schedule: '*/5 * * * *', retention: 'keep' }],
  }),
});

export type Settings = z.output<typeof settingsSchema>;

/** The whole file, as an editor checks it. */
export const configSchema = settingsSchema.extend({
  destinations: z.record(name, destinationSchema).meta({ description: 'Where mail goes, by a name of your choice.' }),
  accounts: z
    .record(name, accountEntrySchema)
    .meta({ description: 'The POP3 accounts to empty, by a name of your choice.' }),
});

/** What is wrong between settings. */
export function settingsFindings({ http, redis }: Partial<Settings>): Finding[] {
  const findings: Finding[] = [];
  if (http !== undefined && http.token === undefined && !isLoopback(http.listen.host)) {
    findings.push(
      wrong(
        ['http', 'listen'],
        'is open to other hosts without a token',
        'add `token: { file: PATH }`, or listen on 127.0.0.1',
      ),
    );
  }
  if (redis !== undefined && (redis.url === undefined) === (redis.socket === undefined)) {
    const message = redis.url === undefined ? 'is empty' : 'has both `url` and `socket`';
    findings.push(
      wrong(['redis'], message, 'give either `url` or `socket`, or leave `redis` out for the embedded one'),
    );
  }
  return findings;
}
