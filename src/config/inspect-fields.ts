/** Checks the fields of one group against their schemas, each on its own, so that one wrong field hides no other. Pure. */

import { z } from 'zod';
import type { Finding } from './finding.ts';
import type { Group } from './options.ts';
import { nearest } from './suggest.ts';
import { synonym } from './synonyms.ts';
import { unknownField, wordsFor } from './wording.ts';

export interface Inspected {
  /** The fields that are right, in base units, with defaults. All of them if there are no findings. */
  readonly values: Record<string, unknown>;
  readonly findings: readonly Finding[];
  /** The fields that are wrong in themselves, or that an unknown one was probably meant for: not to be called missing. */
  readonly told: ReadonlySet<string>;
}

/** What else is known about the fields of a group. */
export interface Surroundings {
  /** Fields that are checked elsewhere: only to tell a mistyped one. */
  readonly alsoKnown?: readonly string[];
  /** Where an unknown field would be right, as a remedy. */
  readonly home?: (field: string) => string | undefined;
}

/** Checks `raw` field by field. */
export function inspectFields(schema: z.ZodObject, raw: Group, around: Surroundings = {}): Inspected {
  const values: Record<string, unknown> = {};
  const findings: Finding[] = [];
  const known = Object.keys(schema.shape);
  const told = new Set<string>();
  for (const field of Object.keys(raw)) {
    if (known.includes(field)) continue;
    const all = [...known, ...(around.alsoKnown ?? [])];
    findings.push(unknownField([field], all, around.home?.(field)));
    told.add(synonym(field)?.field ?? nearest(field, all) ?? field);
  }
  for (const field of known) {
    // told already, by its other name or as a merge key
    if (raw[field] === undefined && (told.has(field) || '<<' in raw)) {
      told.add(field);
      continue;
    }
    const option = schema.shape[field];
    if (!(option instanceof z.ZodType)) continue;
    const result = option.safeParse(raw[field]);
    if (result.success) {
      values[field] = result.data;
      continue;
    }
    told.add(field);
    findings.push(...result.error.issues.flatMap((issue) => wordsFor(issue, option, raw[field], [field])));
  }
  return { values, findings, told };
}
