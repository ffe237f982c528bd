/** Mail that comes back to where it was fetched from (pure): caught by our own trace fields, and by sheer length. */

import type { HeaderField } from '../mail/header.ts';

/** RFC 5321 §6.3 wants at least 100 where `Received:` fields are all there is to go by. */
export const MAX_HOPS = 100;

/**
 * Why the message is in a loop, if it is. `hostName` and `account` are those of `trace.ts`: a message that this host has
 * fetched from this account before must not be sent round again.
 */
export function loopReason(
  fields: readonly HeaderField[],
  self: { readonly hostName: string; readonly account: string },
  maxHops: number = MAX_HOPS,
): string | undefined {
  const received = fields.filter(({ name }) => name.toLowerCase() === 'received');
  if (received.length > maxHops) {
    return `mail loop: ${String(received.length)} Received fields, at most ${String(maxHops)} are allowed`;
  }
  const own = received.some(({ value }) => {
    const [, host, account] = /^by (\S+) \(mailferry\) with POP3 id \S+\s+\(account (\S+)\)/.exec(value) ?? [];
    return host === self.hostName && account === self.account;
  });
  return own ? `mail loop: it was fetched from ${self.account} and forwarded by this host before` : undefined;
}
