/** Finds its way in the schema: the option at a path, its documentation, an example of it. Pure. */

import { z } from 'zod';
import type { Path } from './finding.ts';

/** Fields with values, as YAML gives them. */
export type Group = Readonly<Record<string, unknown>>;

export function isGroup(value: unknown): value is Group {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What stands at a path; undefined if nothing does. */
export function valueAt(raw: unknown, path: Path): unknown {
  let value = raw;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}

type Option = z.core.$ZodType;

/** What an option adds around another type: optional, a default. Undefined for a type that stands for itself. */
function wrapped(option: Option): Option | undefined {
  const isWrapper =
    option instanceof z.ZodOptional || option instanceof z.ZodDefault || option instanceof z.ZodPrefault;
  return isWrapper ? option.unwrap() : undefined;
}

/** The type of what is written, without defaults and transformations. */
export function bare(option: Option): Option {
  const inner = option instanceof z.ZodPipe ? option.in : wrapped(option);
  return inner === undefined ? option : bare(inner);
}

/** The documentation of an option: its own, and that of what it wraps. */
export function metaOf(option: Option): Readonly<Record<string, unknown>> {
  const inner = option instanceof z.ZodPipe ? option.in : wrapped(option);
  return { ...(inner === undefined ? {} : metaOf(inner)), ...z.globalRegistry.get(option) };
}

export function isSecret(option: Option): boolean {
  return metaOf(option)['kind'] === 'secret';
}

/** The option at a path below another; undefined if the schema knows none. */
export function optionAt(option: Option, path: Path): Option | undefined {
  const [step, ...rest] = path;
  if (step === undefined) return option;
  const group = bare(option);
  if (group instanceof z.ZodUnion) return first(group.options, (branch) => optionAt(branch, path));
  const inner = fieldOf(group, step);
  return inner === undefined ? undefined : optionAt(inner, rest);
}

function fieldOf(group: Option, step: string | number): Option | undefined {
  if (group instanceof z.ZodObject) return Object.hasOwn(group.shape, step) ? group.shape[step] : undefined;
  if (group instanceof z.ZodArray) return group.element;
  return group instanceof z.ZodRecord ? group.valueType : undefined;
}

function first<T, R>(items: readonly T[], find: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = find(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The fields that a group may have, in any of its forms. */
export function fieldsOf(option: Option): readonly string[] {
  const group = bare(option);
  if (group instanceof z.ZodObject) return Object.keys(group.shape);
  return group instanceof z.ZodUnion ? group.options.flatMap(fieldsOf) : [];
}

/** A remedy: ``for example `port: 995` ``. Undefined if the option has no example. */
export function exampleOf(option: Option, path: Path): string | undefined {
  const { examples } = metaOf(option);
  const field = [...path].reverse().find((step) => typeof step === 'string');
  if (!Array.isArray(examples) || examples.length === 0 || field === undefined) return undefined;
  return `for example \`${field}: ${flow(examples[0])}\``;
}

/** A value as YAML in one line. */
export function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (isGroup(value)) {
    const fields = Object.entries(value).map(([key, item]) => `${key}: ${flow(item)}`);
    return `{ ${fields.join(', ')} }`;
  }
  return typeof value === 'string' && /^[*&!%@`>|{['"#-]|: | #|^$/.test(value) ? `"${value}"` : String(value);
}
