/** Findings to problems: adds the place, what stands there, and what is left out because of it. Never shows a secret. */

import { fieldName, pathKey } from './finding.ts';
import type { Finding, Path, Place } from './finding.ts';
import { metaOf, optionAt, valueAt } from './options.ts';
import { configSchema } from './schema.ts';
import type { Problem } from './types.ts';
import { printable } from '../untrusted.ts';
import { KINDS } from './destinations/kinds.ts';

const LONGEST_VALUE = 60;

/** What findings are looked up in. */
export interface Ground {
  /** The whole config as it is written. */
  readonly root: unknown;
  readonly places: ReadonlyMap<string, Place>;
  /** Where a problem without any place is. */
  readonly source: string;
}

export function problemOf(finding: Finding, ground: Ground): Problem {
  const place = finding.place ?? placeOf(finding.path, ground);
  return {
    severity: finding.severity,
    file: place.file,
    line: place.line,
    column: place.column,
    field: printable(fieldName(finding.path), 200),
    // a finding with a place of its own is not about what stands first at that path
    value: finding.place === undefined ? shownValue(finding.path, ground.root) : undefined,
    message: finding.message,
    remedy: finding.remedy,
    leavesOut: finding.severity === 'error' ? leftOut(finding.path) : undefined,
  };
}

/** In the order of the files. */
export function sortProblems(problems: readonly Problem[]): Problem[] {
  return [...problems].sort(
    (a, b) => compare(a.file, b.file) || (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0),
  );
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The account or destination that a path lies in, or the alerts. */
export function leftOut(path: Path): Problem['leavesOut'] {
  const [section, name] = path;
  if (section === 'alerts') return { kind: 'alerts', name: '' };
  if (typeof name !== 'string') return undefined;
  if (section === 'accounts') return { kind: 'account', name };
  return section === 'destinations' ? { kind: 'destination', name } : undefined;
}

/** The place of a field, or of the nearest group around it. */
function placeOf(path: Path, ground: Ground): Place {
  for (let length = path.length; length > 0; length -= 1) {
    const place = ground.places.get(pathKey(path.slice(0, length)));
    if (place !== undefined) return place;
  }
  return { file: ground.source, line: undefined, column: undefined };
}

/** What stands at a path, if it is one value of an option that is known and not secret. */
function shownValue(path: Path, root: unknown): string | undefined {
  const value = valueAt(root, path);
  const isOneValue = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
  if (!isOneValue || path.length === 0 || !isOpen(path, root)) return undefined;
  // whatever looks like user:password@host
  if (/:[^@\s]*@/.test(String(value))) return undefined;
  return printable(typeof value === 'string' ? JSON.stringify(value) : String(value), LONGEST_VALUE);
}

/** True if every option on the way is known and may be shown. */
function isOpen(path: Path, root: unknown): boolean {
  for (let length = 1; length <= path.length; length += 1) {
    const option = optionOf(path.slice(0, length), root);
    if (option === undefined || metaOf(option)['writeOnly'] === true) return false;
  }
  return true;
}

function optionOf(path: Path, root: unknown): ReturnType<typeof optionAt> {
  if (path[0] !== 'destinations' || path.length < 3) return optionAt(configSchema, path);
  const kind = KINDS.get(String(valueAt(root, [...path.slice(0, 2), 'type'])));
  if (kind !== undefined) return optionAt(kind.schema, path.slice(2));
  return path.length === 3 && path[2] === 'type' ? optionAt(configSchema, path) : undefined;
}
