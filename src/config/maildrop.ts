/** Which accounts are one and the same maildrop. Pure. */

import type { AccountConfig } from './types.ts';

type Maildrop = Pick<AccountConfig, 'name' | 'host' | 'port' | 'user'>;

/** The POP3 server of an account, the same for all ways to write it. */
export function serverOf({ host, port }: Pick<AccountConfig, 'host' | 'port'>): string {
  return `${host.toLowerCase().replace(/\.$/, '')}:${String(port)}`;
}

/** The same for accounts that open the same maildrop. User names are taken as they are: servers differ in that. */
export function maildropOf(account: Omit<Maildrop, 'name'>): string {
  return `${account.user}@${serverOf(account)}`;
}

/** Maildrops that more than one account opens, with the names of those accounts, in their order. */
export function sharedMaildrops(accounts: Iterable<Maildrop>): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>();
  for (const account of accounts) {
    const maildrop = maildropOf(account);
    names.set(maildrop, [...(names.get(maildrop) ?? []), account.name]);
  }
  return new Map([...names].filter(([, those]) => those.length > 1));
}
