/** A rule of `deliverTo`: which messages go where, and how much depends on it; and rules as the poll knows them. Pure. */

import { z } from 'zod';
import type { Route } from '../sync/route.ts';
import { NAME_PATTERN, sizeOption } from './fields.ts';

const nameSchema = z.string().meta({ pattern: NAME_PATTERN });
const namesSchema = z.union([nameSchema, z.array(nameSchema).min(1)]);
const patternsSchema = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]);

const conditionSchema = z.strictObject({
  from: patternsSchema.optional().meta({ description: 'Patterns for the addresses in From, with `*` and `?`.' }),
  to: patternsSchema
    .optional()
    .meta({ description: 'Patterns for the recipients: To, Cc, Delivered-To, X-Original-To, X-Envelope-To.' }),
  subject: patternsSchema.optional().meta({ description: 'Patterns for the whole subject.' }),
  header: z
    .record(z.string(), patternsSchema)
    .optional()
    .meta({ description: 'Header field name -> patterns for its whole value.' }),
  largerThan: sizeOption([0, 1024 ** 3])
    .optional()
    .meta({ description: 'Only messages over this size.' }),
  smallerThan: sizeOption([0, 1024 ** 3])
    .optional()
    .meta({ description: 'Only messages under this size.' }),
});

export const ruleSchema = z.strictObject({
  if: conditionSchema.optional().meta({ description: 'Which messages; all that is given must fit. Left out: all.' }),
  to: namesSchema.meta({ description: 'Where these messages go.' }),
  else: namesSchema.optional().meta({ description: 'Where all others go.' }),
  optional: z.boolean().default(false).meta({
    description:
      'What `to` names does not hold up the delete, once another destination has confirmed; nor does its fallback.',
  }),
  fallback: nameSchema
    .optional()
    .meta({ description: 'The destination that is used where those of `to` reject a message.' }),
});

export type Rule = z.output<typeof ruleSchema>;

export interface Routing {
  readonly deliverTo: readonly string[];
  readonly routes: readonly Route[] | undefined;
  readonly optional: readonly string[];
  readonly fallback: Readonly<Record<string, string>>;
}

/** `deliverTo` as the poll knows it. A destination is optional only where every rule that names it says so. */
export function compileRouting(entries: readonly (string | Rule)[]): Routing {
  const rules = entries.map((entry): Rule => (typeof entry === 'string' ? { to: entry, optional: false } : entry));
  const routes = rules.map((rule): Route => ({
    when: conditionOf(rule.if),
    to: listOf(rule.to),
    otherwise: listOf(rule.else),
  }));
  const deliverTo = [...new Set(routes.flatMap(({ to, otherwise }) => [...to, ...otherwise]))];
  const required = new Set(rules.flatMap((rule) => [...(rule.optional ? [] : listOf(rule.to)), ...listOf(rule.else)]));
  const fallback = Object.fromEntries(
    rules.flatMap(({ to, fallback: next }) =>
      next === undefined
        ? []
        : listOf(to)
            .filter((name) => name !== next)
            .map((name) => [name, next]),
    ),
  ) as Record<string, string>;
  return {
    deliverTo,
    routes: routes.some(({ when }) => when !== undefined) ? routes : undefined,
    optional: withFallbacks(
      deliverTo.filter((name) => !required.has(name)),
      required,
      fallback,
    ),
    fallback,
  };
}

/** These, and what replaces none but these: what stands in for an optional destination holds nothing up either. */
function withFallbacks(
  optional: readonly string[],
  required: ReadonlySet<string>,
  fallback: Readonly<Record<string, string>>,
): string[] {
  const names = [...optional];
  const sourcesOf = (next: string): string[] => Object.keys(fallback).filter((name) => fallback[name] === next);
  for (const name of names) {
    const next = fallback[name];
    if (next === undefined || names.includes(next) || required.has(next)) continue;
    if (sourcesOf(next).every((source) => names.includes(source))) names.push(next);
  }
  return names;
}

/** Every destination that an entry of `deliverTo` names, with its place in it; the entry may be wrong in any way. */
export function namedIn(entry: unknown): { readonly at: readonly (string | number)[]; readonly name: string }[] {
  if (typeof entry === 'string') return [{ at: [], name: entry }];
  if (typeof entry !== 'object' || entry === null) return [];
  return (['to', 'else', 'fallback'] as const).flatMap((field) => {
    const value: unknown = (entry as Record<string, unknown>)[field];
    if (typeof value === 'string') return [{ at: [field], name: value }];
    if (!Array.isArray(value)) return [];
    return value.flatMap((name: unknown, index) => (typeof name === 'string' ? [{ at: [field, index], name }] : []));
  });
}

function conditionOf(condition: Rule['if']): Route['when'] {
  if (condition === undefined) return undefined;
  const { from, to, subject, header = {}, largerThan, smallerThan } = condition;
  return {
    from: listOf(from),
    to: listOf(to),
    subject: listOf(subject),
    header: Object.fromEntries(Object.entries(header).map(([name, patterns]) => [name, listOf(patterns)])),
    largerThan,
    smallerThan,
  };
}

function listOf(value: string | readonly string[] | undefined): readonly string[] {
  return value === undefined ? [] : typeof value === 'string' ? [value] : value;
}
