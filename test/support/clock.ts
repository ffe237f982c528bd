/** The clock of a program under test, set by the test: hours pass at once. See `clock.mjs`. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Mailferry, RunningWorker } from './mailferry.ts';

export class Clock {
  readonly #file: string;
  readonly #workers = new Set<RunningWorker>();
  #ahead = 0;

  private constructor(file: string) {
    this.#file = file;
  }

  /** Every process that `mailferry` starts from now on goes by this clock. */
  static async of(mailferry: Mailferry): Promise<Clock> {
    const clock = new Clock(join(mailferry.dir, 'clock'));
    await clock.advance(0);
    mailferry.env['MAILFERRY_TEST_CLOCK'] = clock.#file;
    mailferry.env['NODE_OPTIONS'] = `--import=${join(import.meta.dirname, 'clock.mjs')}`;
    return clock;
  }

  /** Tells this one too when time has passed. */
  follow(worker: RunningWorker): void {
    this.#workers.add(worker);
  }

  async advance(milliseconds: number): Promise<void> {
    this.#ahead += milliseconds;
    await writeFile(this.#file, String(this.#ahead));
    for (const { child, running } of this.#workers) if (running) child.kill('SIGUSR2');
  }
}
