/**
 * Reads secrets: from the environment, a file, or a program. Every read is bounded in time and octets, and no error
 * repeats what was read.
 */

import { Failure, reasonOf } from '../failure.ts';
import type { Scope } from '../failure.ts';
import type { SecretSource } from './fields.ts';
import { readBounded } from './read-bounded.ts';
import { runForLine } from './run.ts';

/** Octets: far over any password or token. */
const LONGEST_SECRET = 64 * 1024;
/** Milliseconds: a program that asks a person is as good as one that hangs. */
const COMMAND_TIMEOUT = 30_000;

/** Where a secret is used, for the error. */
export interface Use {
  readonly scope: Scope;
  /** `accounts.old-isp.password` */
  readonly field: string;
}

export interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  /** Absolute; relative paths start here, and programs run here. */
  readonly folder: string;
  /** Makes a path absolute. */
  path(path: string): string;
}

/** The secret. @throws Failure that names where it should have come from, with the scope of `use` */
export async function reveal(source: SecretSource, use: Use, around: Surroundings): Promise<string> {
  const fail = (message: string, remedy: string, cause?: unknown): Failure =>
    new Failure(`${use.field}: ${message}`, { scope: use.scope, code: 'config.secret', remedy, cause });
  if (typeof source === 'string') return source;
  if ('env' in source) {
    const value = around.env[source.env];
    if (value !== undefined && value !== '') return value;
    throw fail(`the environment variable ${source.env} is not set`, 'set it for this process');
  }
  if ('file' in source) {
    const path = around.path(source.file);
    let text: string;
    try {
      text = (await readBounded(path, LONGEST_SECRET)).toString('utf8');
    } catch (thrown) {
      throw fail(`${path} cannot be read: ${reasonOf(thrown)}`, 'create it, and let this process read it', thrown);
    }
    const line = firstLine(text);
    if (line !== '') return line;
    throw fail(`the first line of ${path} is empty`, 'write the secret into its first line');
  }
  const [program = '', ...args] = source.command;
  const result = await runForLine(program.includes('/') ? around.path(program) : program, args, {
    cwd: around.folder,
    env: around.env,
    timeout: COMMAND_TIMEOUT,
    limit: LONGEST_SECRET,
  });
  if (!result.ok) throw fail(`${program} gave no secret: ${result.reason}`, 'run the command by hand to see why');
  const line = firstLine(result.output);
  if (line !== '') return line;
  throw fail(`${program} printed nothing in its first line`, 'it must print the secret first');
}

function firstLine(text: string): string {
  return /^\ufeff?([^\r\n]*)/.exec(text)?.[1] ?? '';
}
