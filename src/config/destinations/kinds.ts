/** The kinds of destinations: a further one is a file beside this one and a line in each of these tables. */

import { z } from 'zod';
import type { Compiling } from '../compiling.ts';
import type { Finding } from '../finding.ts';
import type { DestinationConfig } from '../types.ts';
import { compileImap, imapFindings, imapSchema } from './imap.ts';
import { compileLmtp, lmtpFindings, lmtpSchema } from './lmtp.ts';
import { compileMaildir, maildirSchema } from './maildir.ts';
import { compileSmtp, smtpFindings, smtpSchema } from './smtp.ts';
import { compileWebhook, webhookFindings, webhookSchema } from './webhook.ts';

/** What the config must know of one kind. */
export interface Kind {
  readonly schema: z.ZodObject;
  /** What is wrong between fields; fields that are `wrong` in themselves are absent. */
  findings(options: Record<string, unknown>, wrong: ReadonlySet<string>): Finding[];
  /** Only for options that passed. */
  compile(name: string, options: Record<string, unknown>, compiling: Compiling): DestinationConfig;
}

/** Ties the types of one kind together, which a table of several kinds cannot. */
function kind<S extends z.ZodObject>(
  schema: S,
  findings: (options: Partial<z.output<S>>, wrong: ReadonlySet<string>) => Finding[],
  compile: (name: string, options: z.output<S>, compiling: Compiling) => DestinationConfig,
): Kind {
  return {
    schema,
    findings: (options, wrong) => findings(options as Partial<z.output<S>>, wrong),
    compile: (name, options, compiling) => compile(name, options as z.output<S>, compiling),
  };
}

export const KINDS: ReadonlyMap<string, Kind> = new Map([
  ['smtp', kind(smtpSchema, smtpFindings, compileSmtp)],
  ['lmtp', kind(lmtpSchema, lmtpFindings, compileLmtp)],
  ['imap', kind(imapSchema, imapFindings, compileImap)],
  ['maildir', kind(maildirSchema, () => [], compileMaildir)],
  ['webhook', kind(webhookSchema, webhookFindings, compileWebhook)],
]);

export const destinationSchema = z.discriminatedUnion('type', [
  smtpSchema,
  lmtpSchema,
  imapSchema,
  maildirSchema,
  webhookSchema,
]);
