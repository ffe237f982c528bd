/**
 * What a message is recognised by where its unique-id cannot be trusted: a hash of the header fields that no server
 * rewrites. Not the size and not the whole header, since servers change both between sessions.
 */

import { hash } from 'node:crypto';
import { FieldNames, headerFields } from './header.ts';

const TELLING = new FieldNames(['message-id', 'date', 'from', 'to', 'subject', 'received']);

// Fields that POP3 servers themselves add or change while a message lies there.
const REWRITTEN = /^(status|x-status|x-uid|x-uidl|x-imap|x-imapbase|x-keywords|x-mozilla-.*|content-length|lines)$/;

/**
 * The fingerprint of a message by its header block: 128 bits of SHA-256, 22 characters of base64url. It starts with `~`
 * if it is weak, that is if neither Message-ID nor Received tells this message from others by the same author; then equal
 * fingerprints prove nothing until the octets have been compared.
 */
export function fingerprintOf(header: Buffer): string {
  const telling = headerFields(header, TELLING);
  const counted =
    telling.length > 0 ? telling : headerFields(header).filter((field) => !REWRITTEN.test(field.name.toLowerCase()));
  let lines = '';
  let isStrong = false;
  for (const { name, value } of counted) {
    const key = name.toLowerCase();
    if (value !== '' && (key === 'message-id' || key === 'received')) isStrong = true;
    lines += `${key}:${withSingleBlanks(value)}\n`;
  }
  return (isStrong ? '' : '~') + hash('sha256', lines, 'base64url').slice(0, 22);
}

/** True if equal fingerprints are no proof of an equal message. */
export function isWeak(fingerprint: string): boolean {
  return fingerprint === '' || fingerprint.startsWith('~');
}

function withSingleBlanks(value: string): string {
  return /\t|  /.test(value) ? value.replace(/[ \t]+/g, ' ') : value;
}
