/**
 * The demo's temporary folder, and with it the Redis that runs there. Both go when the demo ends, and also when the process
 * does before that (a second Ctrl-C, a closed terminal, a bug): only kill -9 leaves them.
 */

import { readFileSync, rmSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reasonOf } from '../failure.ts';

export class Scratch {
  readonly path: string;
  readonly #sweep = (): void => sweep(this.path);
  readonly #hangUp = (): void => process.exit(129);

  private constructor(path: string) {
    this.path = path;
    process.once('exit', this.#sweep);
    process.once('SIGHUP', this.#hangUp);
  }

  static async create(): Promise<Scratch> {
    return new Scratch(await mkdtemp(join(await realpath(tmpdir()), 'mailferry-demo-')));
  }

  get dataDir(): string {
    return join(this.path, 'data');
  }

  /** Call it when Redis has been left: then nothing writes there any more. */
  async close(): Promise<void> {
    await rm(this.path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    process.off('exit', this.#sweep);
    process.off('SIGHUP', this.#hangUp);
  }
}

/** Nothing can be awaited any more, and nothing here is worth keeping: Redis is not asked to end. */
function sweep(path: string): void {
  try {
    const pid = Number(readFileSync(join(path, 'data', 'redis', 'redis.pid'), 'utf8'));
    if (Number.isInteger(pid) && pid > 1) process.kill(pid, 'SIGKILL');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ESRCH') process.emitWarning(reasonOf(error));
  }
  rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
}
