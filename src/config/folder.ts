/** Which files of a folder are the config, and how large one may be: the same for loading and for watching. */

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Octets of one file: thousands of accounts. */
export const LARGEST_FILE = 4 * 1024 * 1024;

/** The paths of all `*.yaml` and `*.yml` files, sorted. Names that start with a dot are editors' and Kubernetes' own. */
export async function configFilesIn(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => /^[^.].*\.ya?ml$/.test(name)).sort();
  const paths: string[] = [];
  for (const name of names) {
    const path = join(folder, name);
    if (!(await stat(path)).isDirectory()) paths.push(path);
  }
  return paths;
}
