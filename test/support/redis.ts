/**
 * A real `redis-server` of its own for a test: on a Unix socket in a temporary folder, on request on a TCP port too.
 * Nothing is kept on disk unless the arguments say so. It dies with the test process (`temp.ts`).
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { removeDir, tempDir } from './temp.ts';
import { until } from './wait.ts';

export interface RedisOptions {
  /** More arguments for `redis-server`, such as `['--appendonly', 'yes']`; they win over the ones set here. */
  readonly args?: readonly string[];
  /** A folder to use, and to leave; left out: a new one that is removed at `stop`. */
  readonly dir?: string;
  /** Listen on 127.0.0.1 too. */
  readonly tcp?: boolean;
}

export interface RunningRedis extends AsyncDisposable {
  /** Path of the Unix socket. */
  readonly socket: string;
  /** `redis://127.0.0.1:PORT/0` with `tcp`. */
  readonly url: string | undefined;
  readonly port: number | undefined;
  readonly dir: string;
  /** Of the process that runs now. */
  readonly pid: number;
  /** SIGTERM: saves what it is set to save, and ends. Removes the folder if it was made here. */
  stop(): Promise<void>;
  /** Ends it as a crash would; `restart` brings it back. */
  kill9(): Promise<void>;
  /** Starts it again in the same place with the data that its settings kept; ends it first (SIGTERM) if it runs. */
  restart(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing is answered. */
  freeze(): void;
  thaw(): void;
}

let missing: string | undefined | null = null;

/** Why no Redis can be started here; undefined: it can. For `{ skip: redisAvailable() ?? false }`. */
export function redisAvailable(): string | undefined {
  if (missing === null) {
    const found = spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0;
    missing = found ? undefined : 'redis-server is not installed (apt-get install redis-server)';
  }
  return missing;
}

/** The first octets that the server answers to PING. */
function ping(socket: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = connect(socket, () => connection.write('PING\r\n'));
    connection.once('error', reject);
    connection.once('data', (octets) => {
      connection.destroy();
      resolve(octets.toString('latin1'));
    });
    connection.once('close', () => {
      reject(new Error('closed without an answer'));
    });
  });
}

/** Starts one and waits until it answers PING, its data loaded. */
export async function startRedis(options: RedisOptions = {}): Promise<RunningRedis> {
  const dir = options.dir ?? (await tempDir());
  const socket = join(dir, 'redis.sock');
  const log = join(dir, 'redis.log');
  const port = options.tcp ? await freePort() : undefined;
  const args = ['--port', String(port ?? 0), '--bind', '127.0.0.1', '--unixsocket', socket, '--dir', dir];
  args.push('--save', '', '--appendonly', 'no', ...(options.args ?? []));
  let child: ChildProcess | undefined;

  async function launch(): Promise<void> {
    const output = openSync(log, 'a');
    const started = spawn('redis-server', args, { stdio: ['ignore', output, output], cwd: dir });
    closeSync(output);
    started.unref();
    child = started;
    await once(started, 'spawn');
    const ready = until(async () => started.exitCode !== null || (await ping(socket)).startsWith('+PONG'), {
      what: 'redis-server answers PING',
    });
    if ((await ready) && started.exitCode !== null) {
      throw new Error(`redis-server ended with status ${String(started.exitCode)}:\n${await readFile(log, 'utf8')}`);
    }
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const ended = once(running, 'exit');
    running.ref();
    running.kill('SIGCONT'); // a frozen one hears no SIGTERM
    running.kill(signal);
    await ended;
  }

  function signal(name: NodeJS.Signals): void {
    if (child?.kill(name) !== true) throw new Error('redis-server is not running');
  }

  async function stop(): Promise<void> {
    await end('SIGTERM');
    if (options.dir === undefined) await removeDir(dir);
  }

  await launch();
  return {
    socket,
    url: port === undefined ? undefined : `redis://127.0.0.1:${String(port)}/0`,
    port,
    dir,
    get pid(): number {
      if (child?.pid === undefined) throw new Error('redis-server is not running');
      return child.pid;
    },
    stop,
    kill9: () => end('SIGKILL'),
    async restart(): Promise<void> {
      await end('SIGTERM');
      await launch();
    },
    freeze: () => {
      signal('SIGSTOP');
    },
    thaw: () => {
      signal('SIGCONT');
    },
    [Symbol.asyncDispose]: stop,
  };
}
