/** What one call of the ledger's script writes, as the script takes it: lines by kind. Pure. */

import { printable } from '../untrusted.ts';

/** Two lines for each group that stays, the unique-id and its entries; one for all else. */
export class Batch {
  readonly open: string[] = [];
  readonly settled: string[] = [];
  readonly gone: string[] = [];
  readonly events: string[] = [];
  state = '';

  get size(): number {
    return (this.open.length + this.settled.length) / 2 + this.gone.length + this.events.length;
  }

  /** The script's arguments behind those that say whose it is. */
  parameters(): string[] {
    return [linesOf(this.open), linesOf(this.settled), linesOf(this.gone), this.state, linesOf(this.events)];
  }
}

function linesOf(lines: readonly string[]): string {
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/** Neither unique-ids, which were lines once, nor JSON can hold a line end. @throws TypeError all the same */
export function line(text: string): string {
  if (text.includes('\n')) throw new TypeError(`a line end in the ledger: ${printable(text)}`);
  return text;
}
