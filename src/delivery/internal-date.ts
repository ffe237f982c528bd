/** When a message arrived, by its own header (pure): what a mail store sorts by, and POP3 does not tell. */

import { firstField } from '../mail/header.ts';
import type { HeaderField } from '../mail/header.ts';

const DAY = 86_400_000;

/**
 * The time in the topmost Received field, else in Date; undefined if there is none that can be believed: senders write
 * what they like, and a date in the future would stay on top for ever.
 */
export function internalDate(fields: readonly HeaderField[], now: Date): Date | undefined {
  const received = firstField(fields, 'received');
  const candidates = [received?.slice(received.lastIndexOf(';') + 1), firstField(fields, 'date')];
  for (const text of candidates) {
    const time =
      text === undefined
        ? Number.NaN
        : Date.parse(
            text
              .replace(/\([^()]*\)/g, ' ')
              .trim()
              .slice(0, 100),
          );
    if (time > 0 && time < now.getTime() + DAY) return new Date(time);
  }
  return undefined;
}
