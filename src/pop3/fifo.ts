/** First in, first out, however many: an array's own `shift` moves all that is left, each time. Pure. */

/** What is taken out in front is dropped from the array only when it is half of it. */
const LEAST = 1024;

export class Fifo<T> {
  #items: (T | undefined)[] = [];
  #from = 0;

  get length(): number {
    return this.#items.length - this.#from;
  }

  /** The one that came first. */
  get first(): T | undefined {
    return this.#items[this.#from];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    const item = this.#items[this.#from];
    if (this.length === 0) return undefined;
    this.#items[this.#from] = undefined;
    this.#from += 1;
    if (this.#from >= LEAST && this.#from * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#from);
      this.#from = 0;
    }
    return item;
  }

  /** Takes out all. */
  drain(): T[] {
    const items = this.#items.slice(this.#from) as T[];
    this.#items = [];
    this.#from = 0;
    return items;
  }
}
