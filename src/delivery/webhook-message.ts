/**
 * Reads a message for the webhook format `json`. Whatever the message is like, this gives a payload: a message that cannot
 * be parsed, or is too large to be parsed in memory, goes out with its header and a reason. It must never lose one.
 */

import PostalMime, { decodeWords } from 'postal-mime';
import type { Address, Attachment, Email } from 'postal-mime';
import { reasonOf } from '../failure.ts';
import { headerFields } from '../mail/header.ts';
import type { StoredMessage } from '../mail/message.ts';
import { printable } from '../untrusted.ts';
import { octetsOf } from './content.ts';
import type { Delivery } from './destination.ts';
import type { WebhookPayloadHead } from './webhook-payload.ts';

/** Octets; a larger message is not taken apart, since that happens in memory. */
export const PARSE_LIMIT = 25 * 1024 * 1024;

const NOTHING = {
  from: [],
  to: [],
  cc: [],
  replyTo: [],
  subject: null,
  date: null,
  messageId: null,
  text: null,
  html: null,
  attachments: [],
} as const;

/** The payload of a delivery, all but the message itself. Throws a `Failure` only if the stored message cannot be read. */
export async function payloadHead(delivery: Delivery, destination: string): Promise<WebhookPayloadHead> {
  const { message } = delivery;
  const parsed = await parse(delivery);
  return {
    version: 1,
    id: delivery.idempotencyKey,
    account: delivery.account,
    destination,
    uniqueId: delivery.uniqueId,
    attempt: delivery.attempt,
    firstSeen: delivery.firstSeen.toISOString(),
    size: message.size,
    sha256: message.sha256,
    headers: headerFields(message.header).map(({ name, value }) => ({ name, value: decoded(value) })),
    ...parsed,
  };
}

type Parsed = Omit<
  WebhookPayloadHead,
  'version' | 'id' | 'account' | 'destination' | 'uniqueId' | 'attempt' | 'firstSeen' | 'size' | 'sha256' | 'headers'
>;

async function parse(delivery: Delivery): Promise<Parsed> {
  const { message } = delivery;
  if (message.size > PARSE_LIMIT) {
    const parseError = `${String(message.size)} octets, more than ${String(PARSE_LIMIT)}, are not taken apart`;
    return { ...NOTHING, from: [], to: [], cc: [], replyTo: [], attachments: [], parseError };
  }
  const octets = message.bytes ?? (await whole(message));
  try {
    return taken(await PostalMime.parse(octets, { maxNestingDepth: 100, maxRfc822NestingDepth: 5 }));
  } catch (error) {
    // hostile or broken mail: whatever the parser dislikes, the receiver still gets the message itself
    const parseError = printable(reasonOf(error)) || 'the message could not be parsed';
    return { ...NOTHING, from: [], to: [], cc: [], replyTo: [], attachments: [], parseError };
  }
}

async function whole(message: StoredMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of octetsOf(message)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function taken(email: Email): Parsed {
  return {
    from: mailboxes(email.from === undefined ? [] : [email.from]),
    to: mailboxes(email.to),
    cc: mailboxes(email.cc),
    replyTo: mailboxes(email.replyTo),
    subject: email.subject ?? null,
    date: email.date ?? null,
    messageId: email.messageId ?? null,
    text: email.text ?? null,
    html: email.html ?? null,
    attachments: email.attachments.map(attachmentOf),
    parseError: null,
  };
}

function mailboxes(addresses: readonly Address[] | undefined): { name: string; address: string }[] {
  const flat = (addresses ?? []).flatMap((one) => one.group ?? [one]);
  return flat.map(({ name, address }) => ({ name, address: address ?? '' }));
}

function attachmentOf(part: Attachment): Parsed['attachments'][number] {
  const content = typeof part.content === 'string' ? Buffer.from(part.content) : octetsIn(part.content);
  return {
    filename: part.filename,
    contentType: part.mimeType,
    disposition: part.disposition,
    contentId: part.contentId?.replace(/^<|>$/g, '') ?? null,
    size: content.length,
    content: content.toString('base64'),
  };
}

function octetsIn(content: ArrayBuffer | Uint8Array): Buffer {
  return content instanceof Uint8Array
    ? Buffer.from(content.buffer, content.byteOffset, content.byteLength)
    : Buffer.from(content);
}

function decoded(value: string): string {
  const octets = Buffer.from(value, 'latin1');
  const text = octets.toString('utf8');
  return decodeWords(text.includes('\ufffd') ? value : text);
}
