/** How many deliveries of one session each destination has before it, waiting or under way. Pure: it is told. */

export class Load {
  readonly #running = new Map<string, number>();
  readonly #onEnd: () => void;

  /** @param onEnd called whenever a delivery has ended */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  of(destination: string): number {
    return this.#running.get(destination) ?? 0;
  }

  begin(destination: string): void {
    this.#running.set(destination, this.of(destination) + 1);
  }

  end(destination: string): void {
    this.#running.set(destination, this.of(destination) - 1);
    this.#onEnd();
  }
}
