/** What a receiver of the demo remembers of a message, and how that compares with what lay in the maildrop. Pure. */

import { createHash } from 'node:crypto';
import type { DemoMail } from './mail.ts';

export interface Arrival {
  readonly messageId: string;
  readonly size: number;
  /** Of all octets, in hexadecimal. */
  readonly sha256: string;
}

/** `same`: exactly these octets, exactly once. */
export type Verdict = 'same' | 'missing' | 'changed' | 'repeated';

export function arrivalOf(octets: Buffer): Arrival {
  const head = octets.toString('latin1', 0, 64 * 1024);
  const messageId = /^Message-ID: (\S{1,200})\r$/im.exec(head)?.[1] ?? '';
  return { messageId, size: octets.length, sha256: createHash('sha256').update(octets).digest('hex') };
}

/** How a message of the maildrop got to a place. */
export function verdictOn(mail: DemoMail, arrivals: readonly Arrival[]): Verdict {
  const wanted = arrivalOf(mail.octets);
  const found = arrivals.filter(({ messageId }) => messageId === mail.messageId);
  if (found.length === 0) return 'missing';
  if (found.some(({ sha256, size }) => sha256 !== wanted.sha256 || size !== wanted.size)) return 'changed';
  return found.length === 1 ? 'same' : 'repeated';
}
