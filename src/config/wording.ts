/**
 * The schema library's issues in words that a person can act on. Never repeats a value, and of a secret not even the names
 * of fields.
 */

import { z } from 'zod';
import { wrong } from './finding.ts';
import type { Finding, Path } from './finding.ts';
import { exampleOf, fieldsOf, isGroup, isSecret, metaOf, optionAt, valueAt } from './options.ts';
import { listed, nearest } from './suggest.ts';
import { synonym } from './synonyms.ts';

type Issue = z.core.$ZodIssue;
type Option = z.core.$ZodType;

const SECRET_FORMS = 'write { env: NAME }, { file: PATH }, { command: [PROGRAM, ARG] }, or text in quotes';

/** A list longer than this helps nobody. */
const MOST_NAMES = 13;

/** A field that the schema does not know. @param home where it would be right, as a remedy */
export function unknownField(path: Path, known: readonly string[], home: string | undefined): Finding {
  const field = String(path.at(-1));
  if (field === '<<')
    return wrong(path, 'is a merge key, which is none here', 'use `defaults` for what accounts share');
  const other = synonym(field);
  if (other !== undefined && known.includes(other.field)) return wrong(path, 'is no option', other.remedy);
  const near = nearest(field, known);
  if (near !== undefined) return wrong(path, 'is no option', `did you mean \`${near}\`?`);
  if (home !== undefined) return wrong(path, 'is no option here', home);
  return wrong(path, 'is no option', known.length > MOST_NAMES ? 'remove it' : `use ${listed(known)}`);
}

/** One issue in words. @param at the path of the field that has `option` and the value `raw` */
export function wordsFor(issue: Issue, option: Option, raw: unknown, at: Path): Finding[] {
  const inner = issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step));
  const path = [...at, ...inner];
  const value = valueAt(raw, inner);
  const target = optionAt(option, inner) ?? option;
  const remedy = isSecret(option) ? SECRET_FORMS : remedyFor(target, path, option, at);
  if (issue.code !== 'custom' && issue.code !== 'unrecognized_keys' && (value === undefined || value === null)) {
    // a name without a value may be a secret in the wrong place
    const shown = value === null && metaOf(option)['writeOnly'] === true ? at : path;
    return [wrong(shown, value === undefined ? 'is missing' : 'is empty', remedy)];
  }
  switch (issue.code) {
    case 'custom': {
      const own: unknown = issue.params?.['remedy'];
      return [wrong(path, issue.message, typeof own === 'string' ? own : remedy)];
    }
    case 'unrecognized_keys':
      // a name inside a secret may be the secret: `{ hunter2 }`
      if (isSecret(option)) return [wrong(path, 'has a field too many', remedy)];
      return issue.keys.map((key) => unknownField([...path, key], fieldsOf(target), undefined));
    case 'invalid_union':
      return wordsForUnion(issue, target, value, path, remedy);
    case 'invalid_value':
      return [wrong(path, 'is not known here', nearestValue(value, issue.values.map(String)))];
    case 'too_small':
      if (issue.origin === 'array') return [wrong(path, 'is empty', remedy)];
      return [wrong(path, `is under ${String(issue.minimum)}`, range(target))];
    case 'too_big':
      if (issue.origin === 'array') return [wrong(path, `has more than ${String(issue.maximum)} items`, 'write fewer')];
      return [wrong(path, `is over ${String(issue.maximum)}`, range(target))];
    case 'invalid_type':
      return [wrongType(path, issue.expected, value, target, remedy)];
    // no option uses these
    case 'invalid_format':
    case 'invalid_key':
    case 'invalid_element':
    case 'not_multiple_of':
      return [wrong(path, 'is not right', remedy)];
  }
}

function remedyFor(target: Option, path: Path, option: Option, at: Path): string {
  return exampleOf(target, path) ?? exampleOf(option, at) ?? 'write a value, or leave the field out';
}

function nearestValue(value: unknown, allowed: readonly string[]): string {
  const text = typeof value === 'string' ? value : '';
  const near = text === 'ssl' && allowed.includes('tls') ? 'tls' : nearest(text, allowed);
  return near === undefined ? `write ${listed(allowed)}` : `did you mean ${near}?`;
}

/** The limits of a number as a remedy. */
function range(option: Option): string {
  const { minimum, maximum } = z.toJSONSchema(option, { io: 'input' });
  return `use ${String(minimum)} to ${String(maximum)}`;
}

const WANTED: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a whole number',
  int: 'a whole number',
  array: 'a list',
  object: 'a group of fields',
  record: 'a group of fields',
};

function wrongType(path: Path, expected: string, value: unknown, option: Option, remedy: string): Finding {
  if (expected === 'boolean') return wrong(path, 'is neither true nor false', 'write true or false, without quotes');
  const { kind } = metaOf(option);
  if (typeof value === 'number' && (kind === 'duration' || kind === 'size')) return wrong(path, 'has no unit', remedy);
  const message = `is ${nameOf(value)} where ${WANTED[expected] ?? expected} is wanted`;
  if (expected === 'string' && (typeof value === 'number' || typeof value === 'boolean')) {
    return wrong(path, message, `put it in quotes if it is what you mean; ${remedy}`);
  }
  return wrong(path, message, remedy);
}

function nameOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number') return 'a number';
  if (typeof value === 'boolean') return 'true or false';
  return isGroup(value) ? 'a group of fields' : 'text';
}

type UnionIssue = Extract<Issue, { code: 'invalid_union' }>;

function wordsForUnion(issue: UnionIssue, option: Option, value: unknown, path: Path, remedy: string): Finding[] {
  // the branch that was meant is the one that got further than the kind of value, with the fewest complaints
  const [meant, next] = issue.errors
    .filter((errors) => !errors.some((error) => error.path.length === 0 && isOtherKind(error, value)))
    .sort((a, b) => a.length - b.length);
  if (meant === undefined || meant.length === 0 || meant.length === next?.length) {
    const isPlainNumber = typeof value === 'number' && isSecret(option);
    return [wrong(path, isPlainNumber ? 'is a number where text is wanted' : 'has no form that is known here', remedy)];
  }
  const found = meant.flatMap((error) => wordsFor(error, option, value, path));
  // none of the words of one branch, and not near to one: another branch may have been meant
  const [only] = found;
  if (only?.message === 'is not known here' && only.remedy.startsWith('write ')) {
    return [{ ...only, remedy: `${only.remedy}, ${remedy}` }];
  }
  return found;
}

/** True if a branch was not meant: it wants another kind of value altogether. */
function isOtherKind({ code }: Issue, value: unknown): boolean {
  return code === 'invalid_type' || (code === 'invalid_value' && typeof value !== 'string');
}
