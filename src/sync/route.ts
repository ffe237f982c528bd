/** Which destinations a message goes to, by its header and size. Pure. The first rules decide nothing about later ones. */

import addressparser from 'nodemailer/lib/addressparser';
import { firstField, headerFields } from '../mail/header.ts';
import type { HeaderField } from '../mail/header.ts';

/** All that is given must fit; of several patterns one is enough. Patterns: `*` and `?`, the case of letters does not matter. */
export interface RouteCondition {
  /** Against each address of From. */
  readonly from: readonly string[];
  /** Against each address of To, Cc, Delivered-To, X-Original-To and X-Envelope-To. */
  readonly to: readonly string[];
  /** Against the whole subject, decoded. */
  readonly subject: readonly string[];
  /** Field name -> patterns against the whole value, decoded. */
  readonly header: Readonly<Record<string, readonly string[]>>;
  /** Octets. */
  readonly largerThan: number | undefined;
  readonly smallerThan: number | undefined;
}

export interface Route {
  /** Undefined: every message. */
  readonly when: RouteCondition | undefined;
  readonly to: readonly string[];
  /** Where messages go that do not fit. */
  readonly otherwise: readonly string[];
}

const RECIPIENT_FIELDS = new Set(['to', 'cc', 'delivered-to', 'x-original-to', 'x-envelope-to']);
/** Characters of a field that are looked through for addresses: some two thousand of them. */
const LONGEST_FIELD = 64 * 1024;

/** The destinations that these rules give to a message, each once, in order; none if no rule fits. */
export function routedTo(routes: readonly Route[], header: Buffer, size: number): string[] {
  const fields = headerFields(header);
  const names = routes.flatMap(({ when, to, otherwise }) =>
    when === undefined || fits(when, fields, size) ? to : otherwise,
  );
  return [...new Set(names)];
}

function fits(condition: RouteCondition, fields: readonly HeaderField[], size: number): boolean {
  const { from, to, subject, header, largerThan, smallerThan } = condition;
  if (largerThan !== undefined && size <= largerThan) return false;
  if (smallerThan !== undefined && size >= smallerThan) return false;
  const senders = addressesOf(fields.filter(({ name }) => name.toLowerCase() === 'from'));
  const recipients = addressesOf(fields.filter(({ name }) => RECIPIENT_FIELDS.has(name.toLowerCase())));
  return (
    matches(from, senders) &&
    matches(to, recipients) &&
    matches(subject, [decoded(firstField(fields, 'subject') ?? '')]) &&
    Object.entries(header).every(([name, patterns]) =>
      matches(
        patterns,
        fields.filter((field) => field.name.toLowerCase() === name.toLowerCase()).map(({ value }) => decoded(value)),
      ),
    )
  );
}

function matches(patterns: readonly string[], texts: readonly string[]): boolean {
  return (
    patterns.length === 0 ||
    patterns.some((pattern) => texts.some((text) => fitsPattern(pattern.toLowerCase(), text.toLowerCase())))
  );
}

function addressesOf(fields: readonly HeaderField[]): string[] {
  return fields.flatMap(({ value }) => {
    // Header octets come one character each; an internationalised address is UTF-8 (RFC 6532).
    const text = Buffer.from(value.slice(0, LONGEST_FIELD), 'latin1').toString('utf8');
    // Never the display name or a comment, where a sender may write anybody's address.
    return addressparser(text, { flatten: true }).flatMap(({ address }) => (address === '' ? [] : [address]));
  });
}

/** Glob matching in linear space and at most quadratic time: a hostile subject must not stop the clock. */
export function fitsPattern(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    if (p < pattern.length && pattern[p] === '*') {
      star = p;
      p += 1;
      resume = t;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p += 1;
      t += 1;
    } else if (star >= 0) {
      p = star + 1;
      resume += 1;
      t = resume;
    } else return false;
  }
  while (pattern[p] === '*') p += 1;
  return p === pattern.length;
}

/** Header text as people read it: encoded words (RFC 2047) decoded, raw 8-bit taken for UTF-8 where it is. */
export function decoded(value: string): string {
  const raw = Buffer.from(value, 'latin1');
  const utf8 = raw.toString('utf8');
  const text = utf8.includes('\ufffd') ? value : utf8;
  return text
    .slice(0, 2000)
    .replace(/(=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=)\s+(?==\?)/g, '$1')
    .replace(
      /=\?([^?*\s]+)(?:\*[^?]*)?\?([BbQq])\?([^?\s]*)\?=/g,
      (whole, charset: string, encoding: string, data: string) => {
        const octets =
          encoding.toUpperCase() === 'B'
            ? Buffer.from(data, 'base64')
            : Buffer.from(
                data
                  .replaceAll('_', ' ')
                  .replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
                'latin1',
              );
        try {
          return new TextDecoder(charset).decode(octets);
        } catch {
          return whole; // a charset that nobody knows
        }
      },
    );
}
