/** Several files of a folder as one config. Entries of `accounts` and `destinations` add up; all else stands in one file only. Pure. */

import { pathKey, placeName, wrong } from './finding.ts';
import type { Finding, Path, Place } from './finding.ts';
import { isGroup } from './options.ts';
import type { Tree } from './tree.ts';

/** The sections that may be spread over files. */
const SPREAD = new Set(['accounts', 'destinations']);

export function mergeTrees(trees: readonly Tree[]): Tree {
  const [only] = trees;
  if (only !== undefined && trees.length === 1) return only;
  const root = Object.create(null) as Record<string, unknown>;
  const places = new Map<string, Place>();
  const findings: Finding[] = [];
  const take = (target: Record<string, unknown>, tree: Tree, path: Path, value: unknown): boolean => {
    const key = String(path.at(-1));
    const place = tree.places.get(pathKey(path));
    if (!Object.hasOwn(target, key)) {
      target[key] = value;
      return true;
    }
    const first = places.get(pathKey(path));
    const where = first === undefined ? '' : `: first at ${placeName(first)}`;
    const finding = wrong(path, `stands in two files${where}`, 'keep one of them, or rename one');
    findings.push(place === undefined ? finding : { ...finding, place });
    return false;
  };
  for (const tree of trees) {
    findings.push(...tree.findings);
    if (!isGroup(tree.value)) continue;
    for (const [section, value] of Object.entries(tree.value)) {
      const spread = SPREAD.has(section) && isGroup(value) && (isGroup(root[section]) || root[section] === undefined);
      if (!spread) {
        take(root, tree, [section], value);
        continue;
      }
      const target = (root[section] ??= Object.create(null)) as Record<string, unknown>;
      for (const [name, entry] of Object.entries(value)) take(target, tree, [section, name], entry);
    }
    // the first file that has a field is the one whose place counts
    for (const [key, place] of tree.places) if (!places.has(key)) places.set(key, place);
  }
  return { value: root, places, findings };
}
