/**
 * A secret of the config: knows where it comes from, reads it when asked, and prints as `[secret]` wherever it ends up.
 * Reading is passed in, so that this file stays pure.
 */

import { inspect } from 'node:util';
import { revealed } from '../redact.ts';
import type { SecretSource } from './fields.ts';
import type { Secret } from './types.ts';

const PRINTED = '[secret]';
/** Values of one secret that no log line may hold: the one in use, and those that sessions which still run were told. */
const KEPT = 4;

export class ConfiguredSecret implements Secret {
  readonly #identity: string;
  readonly #read: () => Promise<string>;
  #reading: Promise<string> | undefined;
  #values: readonly string[] = [];

  constructor(source: SecretSource, read: () => Promise<string>) {
    this.#identity = JSON.stringify(source);
    this.#read = read;
  }

  /** True if both come from the same place; what is found there does not count. */
  static same(a: ConfiguredSecret, b: ConfiguredSecret): boolean {
    return a.#identity === b.#identity;
  }

  /** Those who ask while it is being read share one read. */
  reveal(): Promise<string> {
    this.#reading ??= this.#revealOnce();
    return this.#reading;
  }

  /** From here on no log line may hold it. */
  async #revealOnce(): Promise<string> {
    try {
      const secret = await this.#read();
      revealed.remember(secret);
      revealed.rememberUrl(secret);
      this.#keep(secret);
      return secret;
    } finally {
      this.#reading = undefined;
    }
  }

  #keep(secret: string): void {
    const values = [...this.#values.filter((value) => value !== secret), secret];
    for (const value of values.slice(0, -KEPT)) revealed.forget(value);
    this.#values = values.slice(-KEPT);
  }

  toString(): string {
    return PRINTED;
  }

  toJSON(): string {
    return PRINTED;
  }

  [inspect.custom](): string {
    return PRINTED;
  }
}
