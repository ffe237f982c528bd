/**
 * Checks the fields of one group against their schemas, each on its own, so that one wrong field hides no other, and puts
 * the schema library's findings into words. Never repeats a value.
 */

import { z } from 'zod';
import { wrong } from './finding.ts';
import type { Finding, Path } from './finding.ts';
import { listed, nearest } from './suggest.ts';
import { synonym } from './synonyms.ts';

export type Group = Readonly<Record<string, unknown>>;

export function isGroup(value: unknown): value is Group {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export interface Inspected {
  /** The fields that are right, in base units, with defaults. All of them if there are no findings. */
  readonly values: Record<string, unknown>;
  readonly findings: readonly Finding[];
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
  const meant = new Set<string | undefined>();
  for (const field of Object.keys(raw)) {
    if (known.includes(field)) continue;
    const all = [...known, ...(around.alsoKnown ?? [])];
    findings.push(unknownField([field], all, around.home?.(field)));
    meant.add(synonym(field)?.field ?? nearest(field, all));
  }
  for (const field of known) {
    // told already, by its other name
    if (raw[field] === undefined && meant.has(field)) continue;
    const option = schema.shape[field];
    if (!(option instanceof z.ZodType)) continue;
    const result = option.safeParse(raw[field]);
    if (result.success) values[field] = result.data;
    else findings.push(...result.error.issues.flatMap((issue) => words(issue, option, raw[field], [field])));
  }
  return { values, findings };
}

function unknownField(path: Path, known: readonly string[], home: string | undefined): Finding {
  const field = String(path.at(-1));
  const other = synonym(field);
  if (other !== undefined && known.includes(other.field)) return wrong(path, 'is no option', other.remedy);
  const near = nearest(field, known);
  if (near !== undefined) return wrong(path, 'is no option', `did you mean \`${near}\`?`);
  if (home !== undefined) return wrong(path, 'is no option here', home);
  return wrong(path, 'is no option', known.length > 10 ? 'remove it' : `use ${listed(known)}`);
}

type Issue = z.core.$ZodIssue;

const SECRET_FORMS = 'write { env: NAME }, { file: PATH } or { command: [PROGRAM, ARG] }';

/** One issue of the schema library in words. @param at the path of the field that `raw` is the value of */
function words(issue: Issue, option: z.core.$ZodType, raw: unknown, at: Path): Finding[] {
  const inner = issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step));
  const path = [...at, ...inner];
  const value = valueAt(raw, inner);
  const target = optionAt(option, inner) ?? option;
  const example = exampleOf(target, inner.length === 0 ? at : path) ?? exampleOf(option, at);
  switch (issue.code) {
    case 'custom': {
      const remedy: unknown = issue.params?.['remedy'];
      return [wrong(path, issue.message, typeof remedy === 'string' ? remedy : (example ?? 'correct it'))];
    }
    case 'unrecognized_keys':
      // a name inside a secret may be the secret: `{ hunter2 }`
      if (metaOf(option)['kind'] === 'secret') return [wrong(path, 'has a field too many', SECRET_FORMS)];
      return issue.keys.map((key) => unknownField([...path, key], groupKeys(target), undefined));
    case 'invalid_union':
      return union(issue, target, value, path, example);
    case 'invalid_value': {
      const allowed = issue.values.map(String);
      if (value === undefined || value === null) return [absent(path, value, example)];
      const near =
        value === 'ssl' && allowed.includes('tls') ? 'tls' : nearest(typeof value === 'string' ? value : '', allowed);
      const remedy = near === undefined ? `write ${listed(allowed)}` : `did you mean ${near}?`;
      return [wrong(path, `is none of ${listed(allowed).replace(/ or (?=[^ ]*$)/, ', ')}`, remedy)];
    }
    case 'too_small':
      if (issue.origin !== 'array') return [wrong(path, `is under ${String(issue.minimum)}`, range(target))];
      return [wrong(path, 'is empty', example ?? 'write at least one')];
    case 'too_big':
      if (issue.origin !== 'array') return [wrong(path, `is over ${String(issue.maximum)}`, range(target))];
      return [wrong(path, `has more than ${String(issue.maximum)} items`, 'write fewer')];
    case 'invalid_type':
      if (value === undefined || value === null) return [absent(path, value, example)];
      return [wrongType(path, issue.expected, value, target, example)];
    // no option uses these
    case 'invalid_format':
    case 'invalid_key':
    case 'invalid_element':
    case 'not_multiple_of':
      return [wrong(path, 'is not right', example ?? 'correct it')];
  }
}

function absent(path: Path, value: unknown, example: string | undefined): Finding {
  const message = value === undefined ? 'is missing' : 'is empty';
  return wrong(path, message, example ?? 'write a value, or leave the field out');
}

/** The limits of a number as a remedy. */
function range(option: z.core.$ZodType): string {
  const { minimum, maximum } = z.toJSONSchema(option, { io: 'input' });
  return `use ${String(minimum)} to ${String(maximum)}`;
}

function wrongType(
  path: Path,
  expected: string,
  value: unknown,
  option: z.core.$ZodType,
  example: string | undefined,
): Finding {
  const is = nameOf(value);
  const { kind } = metaOf(option);
  if (typeof value === 'number' && (kind === 'duration' || kind === 'size')) {
    return wrong(
      path,
      'has no unit',
      example ?? (kind === 'duration' ? 'write 90s, 5m, 12h or 30d' : 'write 64KB or 25MB'),
    );
  }
  if (expected === 'string' && (typeof value === 'number' || typeof value === 'boolean')) {
    const hint = example === undefined || !/: (\d|true)/.test(example) ? (example ?? '') : '';
    const looksLike = hint === '' ? 'put it in quotes' : `put it in quotes if it is what you mean; ${hint}`;
    return wrong(path, `is ${is} where text is wanted`, looksLike);
  }
  return wrong(path, `is ${is} where ${wantedName(expected)} is wanted`, example ?? 'correct it');
}

function union(
  issue: Issue & { code: 'invalid_union' },
  option: z.core.$ZodType,
  value: unknown,
  path: Path,
  example: string | undefined,
): Finding[] {
  if (value === undefined || value === null) return [absent(path, value, example)];
  // the branch that was meant is the one that got further than the kind of value
  const branches = issue.errors
    .filter((errors) => !errors.some((error) => error.path.length === 0 && isOtherKind(error, value)))
    .sort((a, b) => a.length - b.length);
  const [meant, next] = branches;
  if (meant !== undefined && meant.length > 0 && (next === undefined || next.length > meant.length)) {
    return meant.flatMap((error) => words(error, option, value, path));
  }
  const isSecret = metaOf(option)['kind'] === 'secret';
  if (isSecret && typeof value === 'number')
    return [wrong(path, 'is a number where text is wanted', `put it in quotes, or ${SECRET_FORMS}`)];
  return [
    wrong(
      path,
      `is ${nameOf(value)} in no form that is known here`,
      isSecret ? SECRET_FORMS : (example ?? 'correct it'),
    ),
  ];
}

/** True if a branch was not meant: it wants another kind of value altogether. */
function isOtherKind({ code }: Issue, value: unknown): boolean {
  return code === 'invalid_type' || (code === 'invalid_value' && typeof value !== 'string');
}

function nameOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number') return 'a number';
  if (typeof value === 'boolean') return 'true or false';
  return isGroup(value) ? 'a group of fields' : 'text';
}

const WANTED: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a whole number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a group of fields',
  record: 'a group of fields',
};

function wantedName(expected: string): string {
  return WANTED[expected] ?? expected;
}

export function valueAt(raw: unknown, path: Path): unknown {
  let value = raw;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}

/** What stands around a type without being part of the path: defaults, transformations. */
function bare(option: z.core.$ZodType): z.core.$ZodType {
  if (option instanceof z.ZodOptional || option instanceof z.ZodDefault || option instanceof z.ZodPrefault) {
    return bare(option.unwrap());
  }
  return option instanceof z.ZodPipe ? bare(option.in) : option;
}

/** The option at a path below another; undefined if the schema knows none. */
export function optionAt(option: z.core.$ZodType, path: Path): z.core.$ZodType | undefined {
  const [step, ...rest] = path;
  if (step === undefined) return option;
  const inner = bare(option);
  let next: z.core.$ZodType | undefined;
  if (inner instanceof z.ZodObject) next = Object.hasOwn(inner.shape, step) ? inner.shape[step] : undefined;
  else if (inner instanceof z.ZodArray) next = inner.element;
  else if (inner instanceof z.ZodRecord) next = inner.valueType;
  else if (inner instanceof z.ZodUnion) {
    for (const branch of inner.options) {
      const found = optionAt(branch, path);
      if (found !== undefined) return found;
    }
  }
  return next === undefined ? undefined : optionAt(next, rest);
}

function groupKeys(option: z.core.$ZodType): readonly string[] {
  const inner = bare(option);
  if (inner instanceof z.ZodObject) return Object.keys(inner.shape);
  return inner instanceof z.ZodUnion ? inner.options.flatMap(groupKeys) : [];
}

/** The documentation of an option, its own or that of what it wraps. */
export function metaOf(option: z.core.$ZodType): Readonly<Record<string, unknown>> {
  const own = z.globalRegistry.get(option) ?? {};
  if (option instanceof z.ZodOptional || option instanceof z.ZodDefault || option instanceof z.ZodPrefault) {
    return { ...metaOf(option.unwrap()), ...own };
  }
  return option instanceof z.ZodPipe ? { ...metaOf(option.in), ...own } : own;
}

/** `for example \`port: 995\``; undefined if the option has no example. */
function exampleOf(option: z.core.$ZodType, path: Path): string | undefined {
  const examples = metaOf(option)['examples'];
  const field = [...path].reverse().find((step) => typeof step === 'string');
  if (!Array.isArray(examples) || examples.length === 0 || field === undefined) return undefined;
  return `for example \`${field}: ${flow(examples[0])}\``;
}

/** A value as YAML in one line. */
export function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (isGroup(value))
    return `{ ${Object.entries(value)
      .map(([key, item]) => `${key}: ${flow(item)}`)
      .join(', ')} }`;
  return typeof value === 'string' && /^[*&!%@`>|{['"#-]|: | #|^$/.test(value) ? `"${value}"` : String(value);
}
