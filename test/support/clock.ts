/** The clock of a program under test, set by the test: hours pass at once. See `clock.mjs`. */

import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Mailferry } from './mailferry.ts';

export class Clock {
  readonly #file: string;
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

  async advance(milliseconds: number): Promise<void> {
    this.#ahead += milliseconds;
    await writeFile(`${this.#file}.new`, String(this.#ahead));
    await rename(`${this.#file}.new`, this.#file);
  }
}
