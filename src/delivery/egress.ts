/**
 * Which addresses a webhook may connect to (pure). A URL of the config or a name in the DNS must not lead mail, and the
 * authority of this machine, to metadata services (cloud credentials) or, unless wanted, to the private network.
 */

import { isIPv4, isIPv6 } from 'node:net';

/**
 * - `public`: any host of the internet.
 * - `private`: loopback, private networks, and whatever else is not routed.
 * - `forbidden`: link-local and metadata services, never to be connected to.
 */
export type AddressClass = 'public' | 'private' | 'forbidden';

type Range = readonly [network: string, bits: number];

// IANA special-purpose registries (RFC 6890) and the metadata services of the large clouds that lie outside link-local.
const FORBIDDEN: readonly Range[] = [
  ['169.254.0.0', 16],
  ['100.100.100.200', 32], // Alibaba Cloud
  ['168.63.129.16', 32], // Azure
  ['192.0.0.192', 32], // Oracle Cloud
  ['fe80::', 10],
  ['fd00:ec2::', 32], // AWS
  ['fd20:ce::', 32], // Google Cloud
];

const PRIVATE: readonly Range[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3], // multicast, reserved, broadcast
  ['::', 127], // unspecified and loopback
  ['fc00::', 7],
  ['fec0::', 10], // site-local, of old
  ['ff00::', 8],
];

// Prefixes of IPv6 that carry an IPv4 address, and the octet where it begins.
const CARRIERS: readonly (readonly [...Range, offset: number])[] = [
  ['::ffff:0:0', 96, 12], // mapped
  ['::ffff:0:0:0', 96, 12], // translated
  ['::', 96, 12], // compatible
  ['64:ff9b::', 96, 12], // NAT64
  ['64:ff9b:1::', 48, 12],
  ['2002::', 16, 2], // 6to4
];

/** What kind of address this is. What is no IP address is `forbidden`. */
export function classOfAddress(address: string): AddressClass {
  const octets = octetsOfAddress(address.replace(/^\[|\]$/g, '').replace(/%.*$/, ''));
  if (octets === undefined || FORBIDDEN.some((range) => lies(octets, range))) return 'forbidden';
  if (PRIVATE.some((range) => lies(octets, range))) return 'private';
  for (const [network, bits, offset] of CARRIERS) {
    if (lies(octets, [network, bits])) return classOfAddress(octets.slice(offset, offset + 4).join('.'));
  }
  return 'public';
}

/** Whether a connection to the address is allowed. */
export function mayConnect(address: string, allowPrivate: boolean): boolean {
  const found = classOfAddress(address);
  return found === 'public' || (found === 'private' && allowPrivate);
}

function lies(octets: readonly number[], [network, bits]: Range): boolean {
  // Of the other family. Told apart at once: to read an address of IPv6 costs ten milliseconds the first time.
  if (network.includes(':') !== (octets.length === 16)) return false;
  const base = octetsOfAddress(network) ?? [];
  for (let bit = 0; bit < bits; bit += 8) {
    const mask = 0xff & (0xff00 >> Math.min(8, bits - bit));
    const index = bit / 8;
    if (((octets[index] ?? 0) & mask) !== ((base[index] ?? 0) & mask)) return false;
  }
  return true;
}

function octetsOfAddress(address: string): number[] | undefined {
  if (isIPv4(address)) return address.split('.').map(Number);
  if (!isIPv6(address)) return undefined;
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  const text =
    dotted === null ? address : `${dotted[1] ?? ''}${pair(dotted[2], dotted[3])}:${pair(dotted[4], dotted[5])}`;
  const [front = '', back] = text.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const head = groups(front);
  const tail = back === undefined ? [] : groups(back);
  const middle = Array.from({ length: 8 - head.length - tail.length }, () => 0);
  return [...head, ...middle, ...tail].flatMap((group) => [group >> 8, group & 0xff]);
}

function pair(high: string | undefined, low: string | undefined): string {
  return ((Number(high) << 8) | Number(low)).toString(16);
}
