/** Finds and reads the files of a config: one file, or all of a folder. Bounded in size and number. */

import { stat } from 'node:fs/promises';
import { dirname, isAbsolute, relative, resolve } from 'node:path';
import { reasonOf } from '../failure.ts';
import { wrong } from './finding.ts';
import type { Finding } from './finding.ts';
import { configFilesIn, LARGEST_FILE } from './folder.ts';
import { readBounded } from './read-bounded.ts';

const MOST_FILES = 1000;

/** In this order, when nothing else is said. The first is relative to the working folder. */
const USUAL_PLACES = ['config/mailferry.yaml', '/etc/mailferry/mailferry.yaml'];

export interface SourceFile {
  /** The path to show: relative where it lies under the working folder. */
  readonly shown: string;
  readonly path: string;
  readonly text: string;
}

export interface Source {
  /** The file or folder, to show. */
  readonly shown: string;
  /** Absolute: where relative paths in the config start. */
  readonly folder: string;
  readonly files: readonly SourceFile[];
}

export type Found =
  | { readonly source: Source; readonly findings: readonly Finding[] }
  | { readonly source: undefined; readonly shown: string; readonly findings: readonly Finding[] };

/**
 * The absolute path of the config: what was asked for, else `MAILFERRY_CONFIG`, else the first usual place where there is
 * one. Undefined if there is none; a path that was asked for is not checked.
 */
export async function findConfig(
  path: string | undefined,
  env: NodeJS.ProcessEnv,
  cwd: string,
): Promise<string | undefined> {
  const asked = path ?? (env['MAILFERRY_CONFIG'] || undefined);
  if (asked !== undefined) return resolve(cwd, asked);
  for (const place of USUAL_PLACES) {
    const candidate = resolve(cwd, place);
    if (await exists(candidate)) return candidate;
  }
  return undefined;
}

/** Reads the config at `path`, or at one of the usual places. */
export async function readSource(path: string | undefined, env: NodeJS.ProcessEnv, cwd: string): Promise<Found> {
  const found = await findConfig(path, env, cwd);
  if (found === undefined) {
    const remedy = 'run `mailferry init`, or copy config/mailferry.example.yaml there, or name a file with --config';
    const message = `no config file: looked for ${USUAL_PLACES.join(' and ')}`;
    return { source: undefined, shown: USUAL_PLACES[0] ?? '', findings: [wrong([], message, remedy)] };
  }
  const shown = shownPath(found, cwd);
  try {
    const isFolder = (await stat(found)).isDirectory();
    const paths = isFolder ? await configFilesIn(found) : [found];
    if (paths.length === 0) {
      return {
        source: undefined,
        shown,
        findings: [wrong([], 'a folder without a *.yaml or *.yml file', 'put one there')],
      };
    }
    if (paths.length > MOST_FILES) {
      const message = `a folder of more than ${String(MOST_FILES)} files`;
      return { source: undefined, shown, findings: [wrong([], message, 'put several accounts into one file')] };
    }
    const files: SourceFile[] = [];
    const findings: Finding[] = [];
    for (const path of paths) {
      const shownFile = shownPath(path, cwd);
      const result = await readText(path);
      if (typeof result === 'string') files.push({ shown: shownFile, path, text: result });
      else findings.push({ ...result, place: { file: shownFile, line: undefined, column: undefined } });
    }
    return { source: { shown, folder: isFolder ? found : dirname(found), files }, findings };
  } catch (thrown) {
    return { source: undefined, shown, findings: [unreadable(thrown)] };
  }
}

/** Where a file lies, for a person: relative to the working folder if it lies under that. */
export function shownPath(path: string, cwd: string): string {
  const short = relative(cwd, path);
  return short === '' || short.startsWith('..') || isAbsolute(short) ? path : short;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    // a place that cannot be looked into is not taken silently: reading it will say why
    (thrown: unknown) => !['ENOENT', 'ENOTDIR'].includes(codeOf(thrown)),
  );
}

async function readText(path: string): Promise<string | Finding> {
  try {
    const octets = await readBounded(path, LARGEST_FILE + 1);
    if (octets.length > LARGEST_FILE) {
      return wrong(
        [],
        `larger than ${String(LARGEST_FILE / 1024 ** 2)}MB`,
        'split it: a folder of files may hold the config',
      );
    }
    if (octets.length > 1 && ((octets[0] ?? 0) ^ (octets[1] ?? 0)) === 1 && (octets[0] ?? 0) >= 0xfe) {
      return wrong([], 'not UTF-8 but UTF-16', 'save it as UTF-8');
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(octets);
  } catch (thrown) {
    if (thrown instanceof TypeError) return wrong([], 'not UTF-8', 'save it as UTF-8');
    return unreadable(thrown);
  }
}

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
}

function unreadable(thrown: unknown): Finding {
  const code = codeOf(thrown);
  if (code === 'ENOENT') return wrong([], 'no such file or folder', 'correct the path');
  if (code === 'EACCES') return wrong([], 'this process may not read it', 'change its owner or mode');
  if (code === 'EISDIR') return wrong([], 'a folder where a file is wanted', 'correct the path');
  return wrong([], `cannot be read: ${reasonOf(thrown)}`, 'correct that');
}
