/**
 * A Redis of our own: `redis-server` (or `valkey-server`) on a Unix socket under `dataDir`, append-only, every write on disk
 * before it is answered. All mailferry processes on one `dataDir` share it. The last to leave stops it, so that a server
 * whose owner was killed is adopted by the next process and ended with it. Two servers never open the same files: one
 * process at a time may start one, and only when none answers and none lives.
 */

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, openSync, closeSync } from 'node:fs';
import { mkdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import type { Server } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { Failure, reasonOf } from '../failure.ts';

/** How long a start may take; loading a large append-only file is part of it. Milliseconds. */
const START_TIME = 60_000;
/** Redis reads a log slowly: what has come to it is written anew as data beyond this. Octets; at the end, and while it runs. */
const LOG_AT_END = 4 * 1024 * 1024;
const LOG_AT_WORK = '16mb';
/** How long the end may wait for that. Milliseconds. */
const REWRITE_TIME = 5_000;
/** Paths of Unix sockets end at 108 octets. */
const SOCKET_LIMIT = 100;

export interface EmbeddedRedis {
  readonly socket: string;
  /** Brings it back if it has died. @throws Failure */
  ensure(): Promise<void>;
  /** Leaves it; ends it if no other process uses it. */
  leave(redis: Redis): Promise<void>;
}

/** Joins the Redis of this `dataDir`, or starts it. @throws Failure (code `redis.embedded`) that says what to install */
export async function joinEmbeddedRedis(dataDir: string): Promise<EmbeddedRedis> {
  const folder = join(dataDir, 'redis');
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw failure(
      `Cannot make ${folder}: ${reasonOf(error)}`,
      'Set dataDir to a folder that the user mailferry runs as may write.',
      error,
    );
  }
  const place = new Place(await realpath(folder));
  await place.ensure();
  return {
    socket: place.socket,
    ensure: async () => await place.ensure(),
    leave: async (redis) => await place.leave(redis),
  };
}

class Place {
  readonly socket: string;
  readonly #folder: string;
  readonly #pidFile: string;
  readonly #lock: string;

  constructor(folder: string) {
    const name = createHash('sha256').update(folder).digest('hex').slice(0, 16);
    this.#folder = folder;
    this.#pidFile = join(folder, 'redis.pid');
    this.socket = join(folder, 'redis.sock');
    if (Buffer.byteLength(this.socket) > SOCKET_LIMIT) this.socket = `/tmp/mailferry-${name}.sock`;
    // In the abstract namespace, where a lock ends with its process; elsewhere than on Linux, a file.
    this.#lock = process.platform === 'linux' ? `\0mailferry-${name}` : join('/tmp', `mailferry-${name}.lock`);
  }

  async ensure(): Promise<void> {
    const deadline = performance.now() + START_TIME;
    while (performance.now() < deadline) {
      if (await answers(this.socket)) return;
      const lock = await takeLock(this.#lock);
      if (lock) {
        try {
          await this.#startLocked(deadline);
          return;
        } finally {
          await new Promise((resolve) => lock.close(resolve));
        }
      }
      await sleep(50);
    }
    throw failure(`The embedded Redis does not answer on ${this.socket}`, `See ${join(this.#folder, 'redis.log')}.`);
  }

  async #startLocked(deadline: number): Promise<void> {
    const living = await this.#livingPid();
    const pid = living ?? (await this.#start());
    while (performance.now() < deadline) {
      if (await answers(this.socket)) return;
      if (!runs(pid)) break;
      await sleep(20);
    }
    const log = await readFile(join(this.#folder, 'redis.log'), 'utf8').catch(() => 'no log');
    throw failure(
      `The embedded Redis did not start: ${log.trim().split('\n').slice(-3).join(' | ')}`,
      `See ${join(this.#folder, 'redis.log')}.`,
    );
  }

  async #start(): Promise<number> {
    const program = findProgram(['redis-server', 'valkey-server']);
    if (program === undefined) {
      throw failure(
        'There is no redis-server or valkey-server on the PATH',
        'Install one (Debian: apt-get install redis-server), or set redis.url in the config to a Redis that runs elsewhere.',
      );
    }
    await rm(this.socket, { force: true });
    const log = openSync(join(this.#folder, 'redis.log'), 'a', 0o600);
    const options = {
      port: '0',
      unixsocket: this.socket,
      unixsocketperm: '600',
      dir: this.#folder,
      appendonly: 'yes',
      appendfsync: 'always',
      save: '',
      'auto-aof-rewrite-min-size': LOG_AT_WORK,
      'maxmemory-policy': 'noeviction',
      // What is known of an account's settled messages is read seldom: up to so many take half of the memory. (The name also
      // serves Redis 6; later ones say listpack.)
      'hash-max-ziplist-entries': '1024',
      daemonize: 'no',
    };
    // A group of its own: Ctrl-C on the terminal must end us first.
    const child = spawn(
      program,
      Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]),
      { detached: true, stdio: ['ignore', log, log], cwd: this.#folder },
    );
    closeSync(log);
    const started = await new Promise<number | undefined>((resolve) => {
      child.once('spawn', () => resolve(child.pid));
      child.once('error', () => resolve(undefined));
    });
    if (started === undefined) throw failure(`${program} cannot be started`, 'See that it may be executed.');
    child.unref();
    await writeFile(this.#pidFile, String(started), { mode: 0o600 });
    return started;
  }

  async leave(redis: Redis): Promise<void> {
    let others: number;
    try {
      others = await othersIn(redis);
      if (others === 0 && (await shortenLog(redis))) others = await othersIn(redis);
    } finally {
      redis.disconnect();
    }
    const pid = others > 0 ? undefined : await this.#livingPid();
    if (pid === undefined) return;
    // Not SHUTDOWN, which a client that reconnects would send again, perhaps to a successor.
    process.kill(pid, 'SIGTERM');
    const deadline = performance.now() + 5000;
    while (performance.now() < deadline && runs(pid)) await sleep(10);
  }

  /** Of the server that was started here, if it still runs. A pid file of before a reboot may name anything. */
  async #livingPid(): Promise<number | undefined> {
    const pid = Number(await readFile(this.#pidFile, 'utf8').catch(() => ''));
    if (!Number.isInteger(pid) || pid <= 1 || !runs(pid)) return undefined;
    if (process.platform !== 'linux') return pid;
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    return /(redis|valkey)-server/.test(command) ? pid : undefined;
  }
}

/** Connections of other processes: each process names all its connections `mailferry:PID:...`. */
async function othersIn(redis: Redis): Promise<number> {
  const list = (await redis.client('LIST')) as string;
  const names = list.split('\n').map((line) => /(?:^| )name=(\S*)/.exec(line)?.[1] ?? '');
  const mine = `mailferry:${process.pid}:`;
  return names.filter((name) => name.startsWith('mailferry:') && !name.startsWith(mine)).length;
}

/**
 * Has a long log written anew as data, so that the next start need not do all of it again. What goes wrong with that is no harm: the
 * log is complete.
 * @returns true if that took its time
 */
async function shortenLog(redis: Redis): Promise<boolean> {
  const rewritten = async (): Promise<boolean> => {
    const { log, isRewriting } = await persistence(redis);
    if (log < LOG_AT_END && !isRewriting) return false;
    if (!isRewriting) await redis.bgrewriteaof();
    do await sleep(20);
    while ((await persistence(redis)).isRewriting && performance.now() < deadline);
    return true;
  };
  const deadline = performance.now() + REWRITE_TIME;
  return await Promise.race([rewritten().catch(() => true), sleep(REWRITE_TIME, true, { ref: false })]);
}

/** How many octets of log have come since the data was last written as a whole, and whether that is under way. */
async function persistence(redis: Redis): Promise<{ readonly log: number; readonly isRewriting: boolean }> {
  const text = await redis.info('persistence');
  const number = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  const isRewriting = number('aof_rewrite_in_progress') + number('aof_rewrite_scheduled') > 0;
  return { log: number('aof_current_size') - number('aof_base_size'), isRewriting };
}

async function answers(socket: string): Promise<boolean> {
  if (!existsSync(socket)) return false;
  return await new Promise((resolve) => {
    const peer = connect(socket);
    const end = (answer: boolean): void => {
      peer.destroy();
      resolve(answer);
    };
    peer.setTimeout(2000, () => end(false));
    peer.once('error', () => end(false));
    peer.once('connect', () => peer.write('PING\r\n'));
    peer.once('data', (data) => end(data.toString('latin1').startsWith('+PONG')));
  });
}

async function takeLock(name: string): Promise<Server | undefined> {
  const server = createServer((peer) => peer.destroy());
  return await new Promise((resolve) => {
    server.once('error', () => resolve(undefined));
    server.listen(name, () => resolve(server));
  });
}

function findProgram(names: readonly string[]): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const name of names) {
    const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
    if (found !== undefined) return found;
  }
  return undefined;
}

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function failure(message: string, remedy: string, cause?: unknown): Failure {
  return new Failure(message, { scope: 'process', code: 'redis.embedded', remedy, cause });
}
