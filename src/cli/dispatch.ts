/** argv -> command; exit codes; signals. Commands are loaded when they are called, so that each starts as fast as it can. */

import { parseArgs } from 'node:util';
import { explainProblems, problemsToJson } from '../config/explain.ts';
import { ConfigError, EXIT, exitCodeOf, UsageError } from './command.ts';
import type { Command, Context, ExitCode } from './command.ts';
import { Failure } from '../failure.ts';
import { redisFailure } from '../store/redis-error.ts';
import { printable } from '../untrusted.ts';

const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import('./run.ts')).run,
  sync: async () => (await import('./sync.ts')).sync,
  check: async () => (await import('./check.ts')).check,
  status: async () => (await import('./status.ts')).status,
  messages: async () => (await import('./messages.ts')).messages,
  log: async () => (await import('./log.ts')).log,
  resume: async () => (await import('./resume.ts')).resume,
  srs: async () => (await import('./srs.ts')).srs,
  health: async () => (await import('./health.ts')).health,
  demo: async () => (await import('./demo.ts')).demo,
};

const COMMON = {
  config: { type: 'string', help: 'the config file or folder' },
  json: { type: 'boolean', help: 'machine-readable output' },
  help: { type: 'boolean', help: 'this text' },
  version: { type: 'boolean', help: 'the version' },
} as const;

async function main(argv: readonly string[]): Promise<ExitCode> {
  const name = commandName(argv);
  if (name === undefined) return await withoutCommand(argv);
  const load = COMMANDS[name];
  if (!load)
    throw new UsageError(`there is no command "${printable(name)}"; there are: ${Object.keys(COMMANDS).join(', ')}`);
  const command = await load();
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { ...COMMON, ...command.options },
    allowPositionals: true,
    strict: true,
  });
  const options: Readonly<Record<string, string | boolean | undefined>> = values;
  if (options['help'] === true) {
    process.stdout.write(`${commandHelp(command)}\n`);
    return EXIT.done;
  }
  return await command.run(
    positionals.slice(1),
    options,
    context(options['config'] as string | undefined, options['json'] === true),
  );
}

/** The first word that is no option and no option's value. */
function commandName(argv: readonly string[]): string | undefined {
  for (let index = 0; index < argv.length; index += 1) {
    const word = argv[index] ?? '';
    if (word === '--config') index += 1;
    else if (!word.startsWith('-')) return word;
  }
  return undefined;
}

async function withoutCommand(argv: readonly string[]): Promise<ExitCode> {
  const { values } = parseArgs({ args: [...argv], options: COMMON, strict: true });
  if (values.version === true) {
    process.stdout.write(`${(await import('../version.ts')).VERSION}\n`);
    return EXIT.done;
  }
  const commands = await Promise.all(Object.values(COMMANDS).map(async (load) => await load()));
  const lines = commands.map(({ name, usage, summary }) => `  ${`${name} ${usage}`.trim()}\n      ${summary}`);
  const text = `Usage: mailferry [--config PATH] COMMAND\n\n${lines.join('\n')}\n\nEach command takes --json and --help.\n`;
  if (values.help === true) {
    process.stdout.write(text);
    return EXIT.done;
  }
  process.stderr.write(text);
  return EXIT.usage;
}

function commandHelp({ name, usage, summary, options }: Command): string {
  const all = Object.entries({ ...options, ...COMMON }).map(
    ([option, { type, help }]) => `  --${option}${type === 'string' ? ' VALUE' : ''}  ${help}`,
  );
  return `mailferry ${`${name} ${usage}`.trim()}\n${summary}\n\n${all.join('\n')}`;
}

function context(configPath: string | undefined, json: boolean): Context {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // The second one means it.
      if (stop.signal.aborted) process.exit(130);
      stop.abort(signal);
    });
  }
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // Whoever read it has seen enough (`| head`): that is no reason to drop what is in flight.
    if (error.code !== 'EPIPE') throw error;
    stop.abort('EPIPE');
  });
  return {
    configPath,
    env: process.env,
    cwd: process.cwd(),
    json,
    stop: stop.signal,
    print: (line) => void process.stdout.write(`${line}\n`),
    warn: (line) => void process.stderr.write(`${line}\n`),
    isTerminal: process.stdout.isTTY,
  };
}

function explain(thrown: unknown): ExitCode {
  const error = redisFailure(thrown) ?? thrown;
  const json = process.argv.includes('--json');
  if (
    error instanceof UsageError ||
    (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))
  ) {
    process.stderr.write(`mailferry: ${error.message}\nSee mailferry --help.\n`);
    return EXIT.usage;
  }
  if (error instanceof ConfigError) {
    const { problems } = error.loaded;
    process.stderr.write(
      json
        ? `${JSON.stringify({ problems: problemsToJson(problems) }, undefined, 2)}\n`
        : explainProblems(problems, false),
    );
    return EXIT.config;
  }
  if (error instanceof Failure) {
    process.stderr.write(
      `mailferry: ${printable(error.message, 1000)}\n${error.remedy === undefined ? '' : `  ${error.remedy}\n`}`,
    );
    return exitCodeOf(error);
  }
  throw error;
}

/**
 * Runs the command that the arguments name.
 * @returns its exit code; whatever goes wrong has been explained on standard error
 */
export async function dispatch(argv: readonly string[]): Promise<ExitCode> {
  try {
    return await main(argv);
  } catch (error) {
    return explain(error);
  }
}
