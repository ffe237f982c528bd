/** Looks at the files that a config refers to, and at who else may read them. Reads no secret's value into a finding. */

import { access, constants, realpath, stat } from 'node:fs/promises';
import { doubtful, wrong } from './finding.ts';
import type { Finding, Path } from './finding.ts';
import { readBounded } from './read-bounded.ts';

/** Why `path` cannot be used as the file of an option; warns where it holds a secret that others can read. */
export async function fileFindings(
  path: string,
  at: Path,
  holds: 'certificate' | 'key' | 'secret',
): Promise<Finding[]> {
  let size: number;
  try {
    const found = await stat(path);
    if (found.isDirectory()) return [wrong(at, `is a folder: ${path}`, 'name a file in it')];
    await access(path, constants.R_OK);
    size = found.isFile() ? found.size : 1;
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : '';
    if (code === 'EACCES') return [wrong(at, `may not be read by this process: ${path}`, 'change its owner or mode')];
    return [wrong(at, `does not exist: ${path}`, 'create it, or correct the path')];
  }
  if (size === 0) return [wrong(at, `is empty: ${path}`, `write the ${holds} into it`)];
  if (holds !== 'secret' && !(await isPem(path)))
    return [wrong(at, `is no PEM file: ${path}`, 'it must hold `-----BEGIN`')];
  if (holds === 'certificate' || !(await isOpenToOthers(path))) return [];
  return [doubtful(at, `can be read by every user of this host: ${path}`, `chmod o-r ${path}`)];
}

const PEM_HEAD = 64 * 1024;

async function isPem(path: string): Promise<boolean> {
  return (await readBounded(path, PEM_HEAD)).includes('-----BEGIN ');
}

/**
 * True if users who are neither owner nor in the group may read it. Secrets that Docker and Kubernetes mount are open to
 * all by their defaults, in a container that has one user: they do not count.
 */
export async function isOpenToOthers(path: string): Promise<boolean> {
  if (process.platform === 'win32') return false;
  const real = await realpath(path);
  if (/^(\/var)?\/run\/secrets\//.test(real) || /\/\.\.\d{4}_/.test(real)) return false;
  return ((await stat(path)).mode & constants.S_IROTH) !== 0;
}
