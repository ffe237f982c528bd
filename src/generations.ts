/**
 * The configs that polls run under. A reload makes a new generation for the polls that begin from then on; those under way
 * end under theirs, and a destination closes when no generation that is in use has it any more. Pure: opening is passed in.
 */

import type { Config, DestinationConfig } from './config/types.ts';
import type { Destination } from './delivery/destination.ts';

export interface Generation {
  readonly config: Config;
  readonly destinations: ReadonlyMap<string, Destination>;
}

export class Generations {
  readonly #open: (config: DestinationConfig) => Destination;
  readonly #onError: (error: unknown) => void;
  readonly #users = new Map<Generation, number>();
  readonly #opened = new Set<Destination>();
  #current: Generation;

  /** @param onError gets what closing a destination throws */
  constructor(config: Config, open: (config: DestinationConfig) => Destination, onError: (error: unknown) => void) {
    this.#open = open;
    this.#onError = onError;
    this.#current = { config, destinations: this.#openAll(config, new Map()) };
  }

  get current(): Generation {
    return this.#current;
  }

  /** Takes the generation of now into use; `leave` must follow, once. */
  enter(): Generation {
    this.#users.set(this.#current, (this.#users.get(this.#current) ?? 0) + 1);
    return this.#current;
  }

  /** Ends one use. What nobody uses any more is closed. */
  leave(generation: Generation): void {
    const users = (this.#users.get(generation) ?? 0) - 1;
    if (users > 0) this.#users.set(generation, users);
    else this.#users.delete(generation);
    void this.#sweep();
  }

  /**
   * Begins a new generation. Destinations that are not among `changed` go on with their connections.
   * @throws what opening a destination throws; then all is as before
   */
  replace(config: Config, changed: ReadonlySet<string>): void {
    const kept = [...this.#current.destinations].filter(
      ([name]) => !changed.has(name) && config.destinations.has(name),
    );
    try {
      this.#current = { config, destinations: this.#openAll(config, new Map(kept)) };
    } finally {
      void this.#sweep();
    }
  }

  /** Closes every destination, whoever uses it. */
  async close(): Promise<void> {
    await this.#closeAll([...this.#opened]);
  }

  #openAll(config: Config, kept: ReadonlyMap<string, Destination>): ReadonlyMap<string, Destination> {
    const destinations = new Map(kept);
    try {
      for (const [name, options] of config.destinations)
        if (!kept.has(name)) destinations.set(name, this.#open(options));
    } finally {
      // Also those of a config of which another cannot be opened: they close again.
      for (const destination of destinations.values()) this.#opened.add(destination);
    }
    return destinations;
  }

  async #sweep(): Promise<void> {
    const inUse = new Set<Destination>();
    for (const { destinations } of [this.#current, ...this.#users.keys()])
      for (const destination of destinations.values()) inUse.add(destination);
    await this.#closeAll([...this.#opened].filter((destination) => !inUse.has(destination)));
  }

  async #closeAll(destinations: readonly Destination[]): Promise<void> {
    for (const destination of destinations) this.#opened.delete(destination);
    await Promise.all(destinations.map(async (destination) => await destination.close().catch(this.#onError)));
  }
}
