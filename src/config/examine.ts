/** Looks at what a config refers to: whether secrets are there, and who else may read them. Reads no secret's value. */

import { fileFindings, isOpenToOthers } from './files.ts';
import { doubtful, fieldName, pathKey, wrong } from './finding.ts';
import type { Finding, Path, Place } from './finding.ts';
import type { Reference } from './references.ts';
import type { SourceFile } from './source.ts';

/** @param absolute makes a path of the config absolute */
export async function examine(
  references: readonly Reference[],
  places: ReadonlyMap<string, Place>,
  files: readonly SourceFile[],
  env: NodeJS.ProcessEnv,
  absolute: (path: string) => string,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const reference of references) findings.push(...(await referenceFindings(reference, env, absolute)));
  const plain = references.flatMap(plainSecret);
  for (const file of files) {
    const inFile = plain.filter(({ path }) => places.get(pathKey(path))?.file === file.shown);
    findings.push(...(await openFileFindings(file, inFile)));
  }
  return findings;
}

async function referenceFindings(
  reference: Reference,
  env: NodeJS.ProcessEnv,
  absolute: (path: string) => string,
): Promise<Finding[]> {
  const { path } = reference;
  if ('file' in reference) return await fileFindings(absolute(reference.file), path, reference.holds);
  const { secret } = reference;
  if (typeof secret === 'string') {
    const isVariable = /^\$(\w+|\{\w+\})$/.test(secret);
    return isVariable
      ? [doubtful(path, 'looks like a variable, but is taken as it stands', 'write { env: NAME }')]
      : [];
  }
  if ('file' in secret) return await fileFindings(absolute(secret.file), path, 'secret');
  if ('command' in secret || (env[secret.env] ?? '') !== '') return [];
  const state = env[secret.env] === '' ? 'empty' : 'not set';
  const message = `needs the environment variable ${secret.env}, which is ${state}`;
  return [wrong(path, message, `set ${secret.env} for this process, or use { file: PATH }`)];
}

/** A secret that stands in the config itself. */
interface Plain {
  readonly path: Path;
  readonly fixed: boolean;
}

function plainSecret(reference: Reference): Plain[] {
  if (!('secret' in reference) || typeof reference.secret !== 'string') return [];
  const { path, secret, fixed } = reference;
  // a Redis URL without a password in it gives nothing away
  const isOpen = /^rediss?:\/\//.test(secret) && (URL.parse(secret)?.password ?? '') === '';
  return isOpen ? [] : [{ path, fixed }];
}

/** One warning a file: that it holds secrets, and that others can read it. */
async function openFileFindings(file: SourceFile, plain: readonly Plain[]): Promise<Finding[]> {
  const [first, second] = plain;
  if (first === undefined || !(await isOpenToOthers(file.path))) return [];
  const more =
    second === undefined ? '' : ` (so do ${String(plain.length - 1)} more, such as ${fieldName(second.path)})`;
  const message = `stands in a file that every user of this host can read${more}`;
  const others = first.fixed ? '' : ', or write { env: NAME } or { file: PATH }';
  return [doubtful(first.path, message, `chmod o-r ${file.shown}${others}`)];
}
