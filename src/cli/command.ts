/** What every command gets and gives: its words, its surroundings, its exit code. One file a command stands beside this one. */

import type { Config, Loaded } from '../config/types.ts';
import { explainProblems } from '../config/explain.ts';
import { loadConfig } from '../config/load.ts';
import type { Failure } from '../failure.ts';
import { createLog } from '../ops/log.ts';
import type { LogOptions } from '../ops/log.ts';
import { ProcessEvents } from '../ops/events.ts';

/** Exit codes, as sysexits(3) numbers them where it can. */
export const EXIT = { done: 0, undelivered: 1, usage: 2, unavailable: 69, config: 78 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface Context {
  /** `--config`, if given. */
  readonly configPath: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly json: boolean;
  /** Aborted by SIGINT and SIGTERM. */
  readonly stop: AbortSignal;
  /** Standard output, a line at a time. */
  print(line: string): void;
  /** Standard error. */
  warn(line: string): void;
  readonly isTerminal: boolean;
}

export interface Command {
  readonly name: string;
  /** Behind the name in the help. */
  readonly usage: string;
  readonly summary: string;
  readonly options: Readonly<Record<string, { readonly type: 'boolean' | 'string'; readonly help: string }>>;
  run(
    words: readonly string[],
    options: Readonly<Record<string, string | boolean | undefined>>,
    context: Context,
  ): Promise<ExitCode>;
}

/** The command line is wrong, in words that say what would be right. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The config is wrong: `problems` says where. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly loaded: Loaded;

  constructor(loaded: Loaded) {
    super('the config is wrong');
    this.loaded = loaded;
  }
}

/** The config, and what is wrong with it. */
export async function readConfig(context: Context): Promise<Loaded> {
  return await loadConfig(context.configPath, context.env, context.cwd);
}

/**
 * The config as far as it can run. Accounts that are left out are told on standard error.
 * @throws ConfigError if nothing can
 */
export async function usableConfig(context: Context): Promise<Config> {
  const loaded = await readConfig(context);
  if (!loaded.config || loaded.config.accounts.size === 0) throw new ConfigError(loaded);
  if (loaded.problems.length > 0) context.warn(explainProblems(loaded.problems, true).trimEnd());
  return loaded.config;
}

/** The accounts that were named, or all. @throws UsageError */
export function chosenAccounts(config: Config, names: readonly string[]): Config['accounts'] {
  if (names.length === 0) return config.accounts;
  const chosen = new Map<string, NonNullable<ReturnType<Config['accounts']['get']>>>();
  for (const name of names) {
    const account = config.accounts.get(name);
    if (!account)
      throw new UsageError(
        `there is no account "${name}" in the config; there are: ${[...config.accounts.keys()].join(', ')}`,
      );
    chosen.set(name, account);
  }
  return chosen;
}

/** Events of a command: to standard error, so that standard output stays its answer. */
export function commandEvents(level: LogOptions['level'], context: Context): ProcessEvents {
  return new ProcessEvents(createLog({ level, pretty: context.isTerminal, fd: 2 }));
}

/** The exit code for a failure. */
export function exitCodeOf(failure: Failure): ExitCode {
  if (failure.code.startsWith('config')) return EXIT.config;
  if (failure.scope === 'message') return EXIT.undelivered;
  return EXIT.unavailable;
}
