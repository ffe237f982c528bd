/** Maildrops in memory for the scriptable POP3 server: what lies there, under which unique-ids, and who has it open. */

import { createHash } from 'node:crypto';

export interface TestMessage {
  /** As a client must get them; a last line end is added on the wire if it is missing. */
  readonly octets: Buffer;
  uniqueId: string;
  /** What LIST and STAT say, asked each time; a lie if it is not `octets.length`. */
  size: number | (() => number);
}

/** What may be given of a message to add; octets as text are taken as Latin-1. */
export type NewMessage =
  | Buffer
  | string
  | { readonly octets: Buffer | string; readonly uniqueId?: string; readonly size?: number | (() => number) };

export class Maildrop {
  readonly user: string;
  /** A password, or an access token for XOAUTH2 and OAUTHBEARER. */
  secret: string;
  /** What a session that opens the maildrop now would see, in this order. */
  messages: TestMessage[] = [];
  /** True while a session has it open. */
  locked = false;
  /** Last end of a session that had it open: `performance.now()`. */
  lastLogin = Number.NEGATIVE_INFINITY;
  /** Unique-ids, in the order in which QUIT deleted them. */
  readonly committed: string[] = [];
  /** How often each unique-id was retrieved up to its terminator. */
  readonly retrieved = new Map<string, number>();
  #added = 0;

  constructor(user: string, secret: string) {
    this.user = user;
    this.secret = secret;
  }

  /** Puts messages behind the others; sessions that are open do not see them. Unique-ids are drawn unless given. */
  add(...added: readonly NewMessage[]): TestMessage[] {
    const messages = added.map((one): TestMessage => {
      this.#added += 1;
      const given = typeof one === 'string' || Buffer.isBuffer(one) ? { octets: one } : one;
      const octets = typeof given.octets === 'string' ? Buffer.from(given.octets, 'latin1') : given.octets;
      const { size = octets.length, uniqueId = `uid-${String(this.#added).padStart(6, '0')}` } = given;
      return { octets, uniqueId, size };
    });
    this.messages.push(...messages);
    return messages;
  }

  /** What QUIT does. */
  commit(deleted: ReadonlySet<TestMessage>): void {
    this.committed.push(...this.messages.filter((one) => deleted.has(one)).map(({ uniqueId }) => uniqueId));
    this.messages = this.messages.filter((one) => !deleted.has(one));
  }
}

export function sizeOf({ size }: TestMessage): number {
  return typeof size === 'number' ? size : size();
}

/** A message as it goes over the wire, terminator and all (RFC 1939 §3). */
export function stuffed(octets: Buffer): Buffer {
  const text = octets.toString('latin1');
  const lines = text === '' || text.endsWith('\r\n') ? text : `${text}\r\n`;
  const dotted = (lines.startsWith('.') ? '.' : '') + lines.replaceAll('\r\n.', '\r\n..');
  return Buffer.from(`${dotted}.\r\n`, 'latin1');
}

/** What a client gets of a message by RETR. */
export function retrievable(octets: Buffer): Buffer {
  const ended = octets.length === 0 || octets.subarray(-2).toString('latin1') === '\r\n';
  return ended ? octets : Buffer.concat([octets, Buffer.from('\r\n')]);
}

/** The header, the empty line and the first `lines` lines of the body. */
export function topOf(octets: Buffer, lines: number): Buffer {
  const end = octets.indexOf('\r\n\r\n');
  if (end < 0) return octets;
  let at = end + 4;
  for (let line = 0; line < lines && at < octets.length; line += 1) {
    const next = octets.indexOf('\r\n', at);
    at = next < 0 ? octets.length : next + 2;
  }
  return octets.subarray(0, at);
}

export function sha256(octets: Buffer): string {
  return createHash('sha256').update(octets).digest('hex');
}
