/** Mail addresses of an envelope (RFC 5321 §4.1.2, RFC 6531; pure). What is no address must not get into a command. */

import { domainToASCII } from 'node:url';
import { firstField } from '../mail/header.ts';
import type { HeaderField } from '../mail/header.ts';

/** Characters of a field that holds one address. */
const LONGEST_FIELD = 2000;

const LOCAL = /^(?:[^\s\p{C}"(),:;<>@[\\\]]+|"(?:[^\p{C}"\\<>]|\\[^\p{C}<>])*")$/u;
const DOMAIN = /^(?:[\p{L}\p{N}_](?:[\p{L}\p{M}\p{N}_.-]*[\p{L}\p{M}\p{N}])?|\[[0-9A-Fa-f.:IPv]+\])$/u;

/** True if `text` can stand between the angle brackets of MAIL FROM or RCPT TO. */
export function isAddress(text: string): boolean {
  const at = text.lastIndexOf('@');
  if (at < 1 || text.length > 254) return false;
  const domain = text.slice(at + 1);
  return LOCAL.test(text.slice(0, at)) && DOMAIN.test(domain) && !domain.includes('..');
}

/**
 * The reverse-path that the message came with, from its Return-Path field: an address, `''` for the null reverse-path
 * `<>` of a bounce, undefined if the field is missing or no address.
 */
export function originalReversePath(fields: readonly HeaderField[]): string | undefined {
  const value = firstField(fields, 'return-path');
  if (value === undefined) return undefined;
  // Whoever sends has written it, or may have: it costs no more than its length.
  if (value.length > LONGEST_FIELD) return undefined;
  const text = value.trim();
  const path = (/^<([^<>]*)>/.exec(text)?.[1] ?? text).trim();
  if (path === '') return '';
  // header octets come one character each; an internationalised address is UTF-8 (RFC 6532)
  const address = Buffer.from(path.replace(/^@[^:]*:/, ''), 'latin1').toString('utf8');
  return isAddress(address) ? address : undefined;
}

/** The address with its domain in ASCII form (IDNA), so that only a local part can ask for SMTPUTF8. */
export function withAsciiDomain(address: string): string {
  const at = address.lastIndexOf('@');
  const domain = address.slice(at + 1);
  if (at < 0 || !needsUtf8(domain)) return address;
  const ascii = domainToASCII(domain);
  return ascii === '' ? address : `${address.slice(0, at)}@${ascii}`;
}

/** True if the address cannot be sent without SMTPUTF8 (RFC 6531). */
export function needsUtf8(address: string): boolean {
  return /\P{ASCII}/u.test(address);
}
