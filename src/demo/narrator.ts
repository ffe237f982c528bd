/**
 * The worker's own events, told as moments of the story instead of as log lines. What the story has no words for goes to the
 * log as ever: in the demo that is trouble nobody planned.
 */

import { AccountEvents, ProcessEvents } from '../ops/events.ts';
import type { MessageFields } from '../ops/events.ts';
import type { Failure } from '../failure.ts';
import { printable } from '../untrusted.ts';

/** Something that happened to one message, or to the maildrop. */
export type Moment =
  | { readonly event: 'retrieved'; readonly uniqueId: string; readonly octets: number; readonly again: boolean }
  | {
      readonly event: 'delivered';
      readonly uniqueId: string;
      readonly destination: string;
      readonly said: string;
      readonly attempt: number;
    }
  | {
      readonly event: 'deferred';
      readonly uniqueId: string;
      readonly destination: string;
      readonly said: string;
      /** Milliseconds until it is tried again. */
      readonly again: number;
    }
  | { readonly event: 'quarantined'; readonly uniqueId: string; readonly said: string }
  | { readonly event: 'deleted'; readonly uniqueId: string }
  /** A person types a command, and gets its answer. */
  | { readonly event: 'command'; readonly words: string }
  | { readonly event: 'answer'; readonly said: string }
  | { readonly event: 'trouble'; readonly said: string };

export type Tell = (moment: Moment) => void;

export class Narrator extends ProcessEvents {
  readonly #tell: Tell;

  constructor(log: ProcessEvents['log'], tell: Tell) {
    super(log);
    this.#tell = tell;
  }

  override account(name: string): AccountEvents {
    return new AccountNarrator(this.log, name, this.#tell);
  }
}

class AccountNarrator extends AccountEvents {
  readonly #tell: Tell;

  constructor(log: ProcessEvents['log'], name: string, tell: Tell) {
    super(log, name);
    this.#tell = tell;
  }

  override delivered({ uniqueId }: MessageFields, destination: string, said: string, attempt: number): void {
    this.#tell({ event: 'delivered', uniqueId, destination, said: printable(said), attempt });
  }

  override deferred(
    { uniqueId }: MessageFields,
    destination: string,
    said: string,
    _attempt: number,
    next: number,
  ): void {
    this.#tell({ event: 'deferred', uniqueId, destination, said: printable(said), again: next - Date.now() });
  }

  override quarantined({ uniqueId }: MessageFields, reason: string): void {
    this.#tell({ event: 'quarantined', uniqueId, said: printable(reason) });
  }

  override pollFailed(failure: Failure): void {
    this.#tell({ event: 'trouble', said: printable(failure.message) });
  }
}
