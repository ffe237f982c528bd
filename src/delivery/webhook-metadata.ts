/** What a webhook's receiver is told about a message in header fields (pure). Values are safe whatever others wrote. */

import type { Delivery } from './destination.ts';

/** What needs no encoding. */
const PLAIN = /^[\x21-\x24\x26-\x7e]*$/;

/** The header fields, names in lower case. */
export function metadataHeaders(delivery: Delivery, destination: string): Record<string, string> {
  return {
    'x-mailferry-account': headerValue(delivery.account),
    'x-mailferry-destination': headerValue(destination),
    'x-mailferry-unique-id': headerValue(delivery.uniqueId),
    'x-mailferry-sha256': delivery.message.sha256,
    'x-mailferry-size': String(delivery.message.size),
    'x-mailferry-attempt': String(delivery.attempt),
    'x-mailferry-first-seen': delivery.firstSeen.toISOString(),
  };
}

/**
 * Text as a header value: printable ASCII stays, all else and `%` itself are percent-encoded as UTF-8, so that
 * `decodeURIComponent` gives the text back. Cut to 500 characters before that.
 */
export function headerValue(text: string): string {
  if (text.length <= 500 && PLAIN.test(text)) return text;
  const whole = text.slice(0, 500).toWellFormed();
  return whole.replace(/[^\x20-\x24\x26-\x7e]|^ | $/gu, (character) =>
    character === ' ' ? '%20' : encodeURIComponent(character),
  );
}
