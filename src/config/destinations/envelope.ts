/** The options of an envelope, the same for SMTP and LMTP: who the recipients are, and what the reverse-path is. */

import { z } from 'zod';
import type { Compiling } from '../compiling.ts';
import {
  addressOption,
  countOption,
  hostOption,
  isAddress,
  refuse,
  refuseAddress,
  secretOption,
  textOption,
} from '../fields.ts';
import { doubtful, wrong } from '../finding.ts';
import type { Finding } from '../finding.ts';
import type { MultidropConfig, ReversePath } from '../types.ts';

/** RFC 5321 §4.5.3.1.8: a server takes at least 100 recipients a message. */
const MOST_RECIPIENTS = 100;

function headerNameOption(): z.ZodType<string, string> {
  return z.string().transform((text, ctx) => {
    if (/^[!-9;-~]{1,70}$/.test(text)) return text;
    return refuse(ctx, 'is no name of a header field', 'write it without the colon, such as Delivered-To');
  });
}

export const envelopeFields = {
  to: z
    .array(addressOption())
    .min(1)
    .max(MOST_RECIPIENTS)
    .meta({ description: 'The recipients. Each is confirmed on its own.', examples: [['me@example.com']] }),
  multidrop: z
    .strictObject({
      headers: z.array(headerNameOption()).min(1).default(['X-Envelope-To', 'X-Original-To', 'Delivered-To']).meta({
        description:
          'Header fields that the provider writes the recipient into; the first of them that names one counts. `To` and `Cc` say nothing reliable: they are what the sender wrote.',
      }),
      domains: z
        .array(hostOption())
        .min(1)
        .meta({
          description: 'Your domains. Addresses of others are never delivered to.',
          examples: [['example.com']],
        }),
      removePrefix: textOption()
        .optional()
        .meta({
          description: 'What the provider puts in front of each address.',
          otherwise: 'nothing',
          examples: ['example.com-'],
        }),
    })
    .optional()
    .meta({
      description:
        'For a maildrop that holds the mail of several people: the recipients come from the header, and `to` gets what names none.',
      otherwise: 'all mail goes to `to`',
      examples: [{ domains: ['example.com'] }],
    }),
  from: z
    .string()
    .transform((text, ctx) =>
      text === 'original' || text === 'srs' || isAddress(text) ? text : refuseAddress(text, ctx),
    )
    .optional()
    .meta({
      description:
        "The reverse-path (envelope sender): an address of your own, which passes SPF; `original` for the message's own; `srs` for that one rewritten into a domain of yours, so that bounces find back.",
      otherwise: '`auth.user` where that is an address, else it must be given',
      examples: ['forwarder@example.com'],
    }),
  srs: z
    .strictObject({
      domain: hostOption().meta({
        description: 'A domain of yours, whose mail you receive.',
        examples: ['example.com'],
      }),
      secret: secretOption().meta({
        description: 'Signs rewritten addresses; any long random text.',
        examples: [{ env: 'SRS_SECRET' }],
      }),
      oldSecrets: z
        .array(secretOption())
        .default([])
        .meta({ description: 'Secrets of before, still good for bounces.', examples: [[{ env: 'OLD_SRS_SECRET' }]] }),
    })
    .optional()
    .meta({ description: 'Sender rewriting, for `from: srs`.', otherwise: 'none' }),
  trace: z.boolean().default(true).meta({
    description: 'Adds one `Received:` field on top; nothing else of the message is changed. Loops are known by it.',
  }),
  maxHops: countOption(1, 1000)
    .default(100)
    .meta({ description: 'A message with more `Received:` fields is in a loop, and refused.', examples: [50] }),
  helo: hostOption()
    .optional()
    .meta({
      description: 'The name to greet the server with.',
      otherwise: "the host's own",
      examples: ['ferry.example.com'],
    }),
};

const envelopeSchema = z.strictObject(envelopeFields);
type Options = z.output<typeof envelopeSchema>;

export function envelopeFindings(options: Partial<Options>, isWrong: ReadonlySet<string>): Finding[] {
  const findings: Finding[] = [];
  if (options.from === 'srs' && options.srs === undefined && !isWrong.has('srs')) {
    findings.push(
      wrong(['srs'], 'is missing', 'write `srs: { domain: DOMAIN, secret: ... }`, which `from: srs` needs'),
    );
  }
  if (options.from !== 'srs' && options.srs !== undefined && !isWrong.has('from')) {
    findings.push(doubtful(['srs'], 'has no effect', 'write `from: srs`, or leave it out'));
  }
  const seen = new Set<string>();
  for (const [index, address] of (options.to ?? []).entries()) {
    const key = address.toLowerCase();
    if (seen.has(key)) findings.push(doubtful(['to', index], 'is in the list twice', 'remove one; it gets one copy'));
    seen.add(key);
  }
  return findings;
}

interface Envelope {
  readonly to: readonly string[];
  readonly multidrop?: MultidropConfig;
  readonly from: ReversePath;
  readonly trace: boolean;
  readonly maxHops: number;
  readonly helo: string | undefined;
}

/** @param otherwise the reverse-path where `from` is left out: an address, or `original` */
export function compileEnvelope(options: Options, otherwise: string, compiling: Compiling): Envelope {
  const { multidrop } = options;
  return {
    to: [...new Map(options.to.map((address) => [address.toLowerCase(), address])).values()],
    ...(multidrop === undefined
      ? {}
      : {
          multidrop: {
            headers: multidrop.headers,
            removePrefix: multidrop.removePrefix,
            domains: multidrop.domains.map((domain) => domain.toLowerCase()),
          },
        }),
    from: compileFrom(options, otherwise, compiling),
    trace: options.trace,
    maxHops: options.maxHops,
    helo: options.helo,
  };
}

function compileFrom({ from, srs }: Options, otherwise: string, compiling: Compiling): ReversePath {
  const chosen = from ?? otherwise;
  if (chosen === 'srs' && srs !== undefined) {
    const secrets = [srs.secret, ...srs.oldSecrets].map((source, index) =>
      compiling.secret(source, index === 0 ? 'srs.secret' : `srs.oldSecrets.${String(index - 1)}`),
    );
    return { kind: 'srs', domain: srs.domain, secrets };
  }
  return chosen === 'original' ? { kind: 'original' } : { kind: 'address', address: chosen };
}
