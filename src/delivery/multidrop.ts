/**
 * Recipients told by header fields of the provider, for maildrops that hold the mail of several people (pure). Only
 * addresses of the configured domains count: what a sender writes must not turn this host into an open relay.
 */

import addressparser from 'nodemailer/lib/addressparser';
import type { MultidropConfig } from '../config/types.ts';
import type { HeaderField } from '../mail/header.ts';
import { isAddress, withAsciiDomain } from './address.ts';

/** RFC 5321 §4.5.3.1.8; a field that names more is no provider's. */
const MOST = 100;
const LONGEST = 10_000;

/**
 * The recipients by the first of the configured fields that names any. Of several fields of one name the topmost counts,
 * which the last server wrote; those below may be anybody's. Empty if none names one.
 */
export function recipientsOf(fields: readonly HeaderField[], config: MultidropConfig): string[] {
  for (const header of config.headers) {
    const wanted = header.toLowerCase();
    for (const field of fields) {
      if (field.name.toLowerCase() !== wanted) continue;
      const found = addressesIn(wanted, field.value)
        .map((address) => allowed(address, config))
        .filter((address) => address !== undefined);
      if (found.length > 0) return [...new Map(found.map((address) => [address.toLowerCase(), address])).values()];
    }
  }
  return [];
}

function addressesIn(header: string, value: string): string[] {
  const octets = value.slice(0, LONGEST);
  if (header === 'received') {
    const recipient = /\sfor\s+<?([^\s<>;]+@[^\s<>;]+)>?/i.exec(octets)?.[1];
    return recipient === undefined ? [] : [recipient];
  }
  const text = Buffer.from(octets, 'latin1').toString('utf8');
  return addressparser(text, { flatten: true })
    .map(({ address }) => address ?? '')
    .slice(0, MOST);
}

function allowed(address: string, { removePrefix, domains }: MultidropConfig): string | undefined {
  const prefixed = removePrefix !== undefined && address.toLowerCase().startsWith(removePrefix.toLowerCase());
  const bare = withAsciiDomain(prefixed ? address.slice(removePrefix.length) : address);
  const domain = bare.slice(bare.lastIndexOf('@') + 1).toLowerCase();
  return isAddress(bare) && domains.includes(domain) ? bare : undefined;
}
