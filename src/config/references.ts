/** The secrets and files that a config names, found by the kinds of its options, whatever else is wrong with it. Pure. */

import { accountSchema } from './account.ts';
import { KINDS } from './destinations/kinds.ts';
import type { SecretSource } from './fields.ts';
import type { Path } from './finding.ts';
import { isGroup, metaOf } from './options.ts';
import { settingsSchema } from './schema.ts';
import { z } from 'zod';

export type Reference =
  /** `fixed`: the option takes no other form of a secret than text. */
  | { readonly path: Path; readonly secret: SecretSource; readonly fixed: boolean }
  | { readonly path: Path; readonly file: string; readonly holds: 'certificate' | 'key' };

/** All secrets and certificate files. */
export function references(root: unknown): Reference[] {
  if (!isGroup(root)) return [];
  const found: Reference[] = [];
  collect(settingsSchema, root, [], found);
  if (isGroup(root['destinations'])) {
    for (const [name, entry] of Object.entries(root['destinations'])) {
      const kind = isGroup(entry) ? KINDS.get(String(entry['type'])) : undefined;
      if (kind !== undefined) collect(kind.schema, entry, ['destinations', name], found);
    }
  }
  if (isGroup(root['accounts'])) {
    for (const [name, entry] of Object.entries(root['accounts']))
      collect(accountSchema, entry, ['accounts', name], found);
  }
  return found;
}

function collect(option: z.core.$ZodType, raw: unknown, path: Path, found: Reference[]): void {
  if (raw === undefined || raw === null) return;
  const meta = metaOf(option);
  if (meta['kind'] === 'secret') {
    if (z.safeParse(option, raw).success) found.push({ path, secret: raw as SecretSource, fixed: false });
    return;
  }
  const field = String(path.at(-1));
  if (meta['kind'] === 'file' && field.endsWith('File') && typeof raw === 'string' && raw !== '') {
    found.push({ path, file: raw, holds: field === 'keyFile' ? 'key' : 'certificate' });
    return;
  }
  if (meta['writeOnly'] === true) {
    found.push(...credentials(raw, path));
    return;
  }
  if (!isGroup(raw)) return;
  const inner = group(option);
  if (inner === undefined) return;
  for (const [key, value] of Object.entries(raw)) {
    if (Object.hasOwn(inner.shape, key)) collect(inner.shape[key], value, [...path, key], found);
  }
}

/** Credentials within options that are no secrets as such: the password of a proxy, a header that logs in. */
function credentials(raw: unknown, path: Path): Reference[] {
  if (typeof raw === 'string')
    return (URL.parse(raw)?.password ?? '') === '' ? [] : [{ path, secret: raw, fixed: true }];
  if (!isGroup(raw)) return [];
  return Object.entries(raw).flatMap(([name, value]) =>
    typeof value === 'string' && /authorization|cookie|token|key|secret/i.test(name)
      ? [{ path: [...path, name], secret: value, fixed: true }]
      : [],
  );
}

function group(option: z.core.$ZodType): z.ZodObject | undefined {
  if (option instanceof z.ZodObject) return option;
  if (option instanceof z.ZodOptional || option instanceof z.ZodDefault || option instanceof z.ZodPrefault) {
    return group(option.unwrap());
  }
  return undefined;
}
