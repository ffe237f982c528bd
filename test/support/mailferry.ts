/**
 * The real program for tests: a process of `src/main.ts` with a config and a folder of its own, its log read line by line.
 * It ends with the test, however that ends: `dispose` kills it, and its embedded Redis goes with its folder's janitor.
 */

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { stringify } from 'yaml';
import { tempDir } from './temp.ts';
import type { Owner } from './temp.ts';
import { until } from './wait.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** One running `mailferry run` (or another command that stays). */
export class RunningWorker implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly lines: LogLine[] = [];
  /** What was no JSON line, and standard error. */
  noise = '';
  #exit: Promise<number | null>;

  constructor(child: ChildProcess) {
    this.child = child;
    this.#exit = once(child, 'exit').then(([code]) => code as number | null);
    if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => this.#take(line));
    child.stderr?.on('data', (chunk: Buffer) => (this.noise += chunk.toString()));
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Lines with that message, in their order. */
  logged(msg: string): LogLine[] {
    return this.lines.filter((line) => line.msg === msg);
  }

  /** Waits for a line with that message. */
  async says(msg: string, timeout = 20_000): Promise<LogLine> {
    return await until(() => this.logged(msg).at(-1), {
      timeout,
      what: `"${msg}" in the log; noise: ${this.noise.slice(-2000)}`,
    });
  }

  /** SIGTERM, and its exit code. */
  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    return await this.#exit;
  }

  async kill9(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#exit;
  }

  async exited(): Promise<number | null> {
    return await this.#exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) await this.kill9();
  }

  #take(line: string): void {
    try {
      this.lines.push(JSON.parse(line) as LogLine);
    } catch {
      this.noise += `${line}\n`;
    }
  }
}

/** A folder with a config, and the program on it. */
export class Mailferry {
  readonly dir: string;
  readonly dataDir: string;
  readonly configPath: string;
  /** Set in the environment of every process that is started from now on. */
  readonly env: Record<string, string> = {};

  private constructor(dir: string) {
    this.dir = dir;
    this.dataDir = join(dir, 'data');
    this.configPath = join(dir, 'mailferry.yaml');
  }

  /** @param config as in YAML; `dataDir` is set here */
  static async create(owner: Owner, config: Readonly<Record<string, unknown>>): Promise<Mailferry> {
    const mailferry = new Mailferry(await tempDir(owner));
    await mailferry.configure(config);
    return mailferry;
  }

  /** Writes another config. */
  async configure(config: Readonly<Record<string, unknown>>): Promise<void> {
    await writeFile(this.configPath, stringify({ dataDir: this.dataDir, log: { level: 'debug' }, ...config }), {
      mode: 0o600,
    });
  }

  /** Starts `run`. */
  start(env: NodeJS.ProcessEnv = {}): RunningWorker {
    return new RunningWorker(this.spawn(['run'], env));
  }

  /** Runs a command to its end. */
  async run(...args: readonly string[]): Promise<Finished> {
    const child = this.spawn(args);
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, stdout, stderr };
  }

  /** Runs a command with `--json`, and what it prints. */
  async json<T>(...args: readonly string[]): Promise<T> {
    const { stdout, stderr } = await this.run(...args, '--json');
    if (stdout === '') throw new Error(`nothing on standard output: ${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Ends the embedded Redis that a killed worker left. */
  async endRedis(): Promise<void> {
    const pid = Number(await readFile(join(this.dataDir, 'redis/redis.pid'), 'utf8').catch(() => ''));
    if (pid > 1) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
  }

  /** Starts a command. */
  spawn(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const { NODE_TEST_CONTEXT: _, ...inherited } = process.env;
    return spawn(process.execPath, [MAIN, '--config', this.configPath, ...args], {
      env: { ...inherited, ...this.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }
}
