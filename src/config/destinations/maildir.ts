/** The options of a destination that writes into a Maildir. */

import { z } from 'zod';
import type { Compiling } from '../compiling.ts';
import { countOption, durationOption, fileOption, HOUR, refuse, SECOND } from '../fields.ts';
import type { MaildirConfig } from '../types.ts';

export const maildirSchema = z.strictObject({
  type: z
    .literal('maildir')
    .meta({ description: 'Writes each message as a file into a Maildir, flushed to the disk.' }),
  path: fileOption().meta({ description: 'The Maildir, which is made if it does not exist.', examples: ['~/Maildir'] }),
  flags: z
    .string()
    .transform((text, ctx) => {
      if (/^[DFPRSTa-z]*$/.test(text)) return [...new Set(text)].sort().join('');
      return refuse(ctx, 'are no flags', 'write letters of D, F, P, R, S and T, such as S for seen');
    })
    .default('')
    .meta({ description: 'Flags that each message gets, as letters; without any it is new.', examples: ['S'] }),
  lineEnds: z.enum(['crlf', 'lf']).default('crlf').meta({
    description:
      '`crlf`: the octets as they came, which Dovecot and most programs read. `lf`: as programs on Unix write text, for Courier and others that insist.',
  }),
  concurrency: countOption(1, 100)
    .default(5)
    .meta({ description: 'Deliveries at a time, over all accounts of this worker.', examples: [5] }),
  timeout: durationOption([SECOND, HOUR])
    .prefault('5m')
    .meta({ description: 'The longest one delivery may take.', examples: ['1m'] }),
});

type Options = z.output<typeof maildirSchema>;

export function compileMaildir(name: string, options: Options, compiling: Compiling): MaildirConfig {
  return {
    type: 'maildir',
    name,
    path: compiling.path(options.path),
    flags: options.flags,
    lineEnds: options.lineEnds,
    concurrency: options.concurrency,
    timeout: options.timeout,
  };
}
