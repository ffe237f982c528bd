/**
 * Sender rewriting (SRS0 and SRS1 as in Mengwong's paper and libsrs2; pure): a reverse-path of our own domain that passes
 * SPF, and from which the original address can be had back, so that bounces find their way. Signed, so that nobody can
 * send to strangers through it, and only good for some weeks.
 */

import { createHmac } from 'node:crypto';

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const DAY = 86_400_000;
/** Bounces come within days; RFC 5321 §4.5.4.1 lets a sender try for four or five. */
const GOOD_FOR_DAYS = 21;
const HASH_LENGTH = 4;

export interface SrsKeys {
  readonly domain: string;
  /** The first signs, all verify. */
  readonly secrets: readonly string[];
}

/** The address rewritten into our domain. The null reverse-path, and addresses that are ours already, stay. */
export function srsForward(address: string, keys: SrsKeys, now: Date): string {
  const [local, domain] = parts(address);
  if (address === '' || domain.toLowerCase() === keys.domain.toLowerCase()) return address;
  const secret = keys.secrets[0] ?? '';
  const first = /^SRS0[=+-](.+)$/i.exec(local)?.[1];
  if (first !== undefined) return `SRS1=${hash(secret, domain, first)}=${domain}==${first}@${keys.domain}`;
  const [, host, rest] = /^SRS1[=+-][^=]+=([^=]+)==(.+)$/i.exec(local) ?? [];
  if (host !== undefined && rest !== undefined) {
    return `SRS1=${hash(secret, host, rest)}=${host}==${rest}@${keys.domain}`;
  }
  const stamp = stampOf(now);
  return `SRS0=${hash(secret, stamp, domain, local)}=${stamp}=${domain}=${local}@${keys.domain}`;
}

/** What an SRS address stands for, or why it is not to be trusted. */
export type Reversed =
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'refused'; readonly reason: 'no SRS address of ours' | 'wrong signature' | 'too old' };

/** The address behind one that `srsForward` made: the original sender, or the SRS0 address of the forwarder before us. */
export function srsReverse(address: string, keys: SrsKeys, now: Date): Reversed {
  const [text, domain] = parts(address);
  const refused = (reason: Extract<Reversed, { kind: 'refused' }>['reason']): Reversed => ({ kind: 'refused', reason });
  if (domain.toLowerCase() !== keys.domain.toLowerCase()) return refused('no SRS address of ours');
  const signed = (given: string, ...texts: readonly string[]): boolean =>
    keys.secrets.some((secret) => hash(secret, ...texts).toLowerCase() === given.toLowerCase());
  const second = /^SRS1[=+-]([^=]+)=([^=]+)==(.+)$/i.exec(text);
  if (second !== null) {
    const [, given = '', host = '', rest = ''] = second;
    return signed(given, host, rest)
      ? { kind: 'address', address: `SRS0=${rest}@${host}` }
      : refused('wrong signature');
  }
  const [, given, stamp, host, local] = /^SRS0[=+-]([^=]+)=([^=]{2})=([^=]+)=(.+)$/i.exec(text) ?? [];
  if (given === undefined || stamp === undefined || host === undefined || local === undefined) {
    return refused('no SRS address of ours');
  }
  if (!signed(given, stamp.toUpperCase(), host, local)) return refused('wrong signature');
  return ageOf(stamp, now) > GOOD_FOR_DAYS ? refused('too old') : { kind: 'address', address: `${local}@${host}` };
}

function parts(address: string): [local: string, domain: string] {
  const at = address.lastIndexOf('@');
  return [address.slice(0, Math.max(at, 0)), address.slice(at + 1)];
}

// Case is lost on the way at some servers, so it takes no part in the signature nor in comparing it.
function hash(secret: string, ...texts: readonly string[]): string {
  const mac = createHmac('sha1', secret).update(texts.join('').toLowerCase());
  return mac.digest('base64').slice(0, HASH_LENGTH);
}

function stampOf(now: Date): string {
  const day = Math.floor(now.getTime() / DAY) % 1024;
  return `${BASE32.charAt(day >> 5)}${BASE32.charAt(day & 31)}`;
}

function ageOf(stamp: string, now: Date): number {
  const [high = -1, low = -1] = stamp
    .toUpperCase()
    .split('')
    .map((letter) => BASE32.indexOf(letter));
  if (high < 0 || low < 0) return Number.POSITIVE_INFINITY;
  return ((Math.floor(now.getTime() / DAY) % 1024) - (high * 32 + low) + 1024) % 1024;
}
