/**
 * Reads a message for the webhook formats `json` and `multipart`. Whatever the message is like, this gives a payload: one
 * that cannot be parsed, or only at a price, goes out with its header and a reason. It must never lose a message, nor let
 * one hold up the process: it reads in pieces, and gives up on bombs (many lines, many parts, deep nests).
 */

import { pipeline } from 'node:stream/promises';
import libmime from 'libmime';
import { MailParser } from 'mailparser';
import type { AddressObject, AttachmentStream, MessageText } from 'mailparser';
import { Failure, reasonOf } from '../failure.ts';
import { firstField, headerFields } from '../mail/header.ts';
import type { StoredMessage } from '../mail/message.ts';
import { printable } from '../untrusted.ts';
import { octetsOf } from './content.ts';
import type { Delivery } from './destination.ts';
import type { WebhookPayloadHead } from './webhook-payload.ts';

/** Octets; a larger message is not taken apart, since its parts are in memory whole. */
export const PARSE_LIMIT = 25 * 1024 * 1024;
/** 25 MB in base64 have 345,000 lines. More are text of short lines, which costs the parser seconds and hundreds of MB. */
const LINE_LIMIT = 400_000;
const HEADER_LIMIT = 256 * 1024;
const PARTS_LIMIT = 1000;
const TIME_LIMIT = 30_000;

type Parsed = Omit<
  WebhookPayloadHead,
  'version' | 'id' | 'account' | 'destination' | 'uniqueId' | 'attempt' | 'firstSeen' | 'size' | 'sha256' | 'headers'
>;
type Attachments = Parsed['attachments'];

/** The payload of a delivery, all but the message itself. Throws a `Failure` only if the stored message cannot be read. */
export async function payloadHead(delivery: Delivery, destination: string): Promise<WebhookPayloadHead> {
  const { message } = delivery;
  const parsed = await parse(message);
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

async function parse(message: StoredMessage): Promise<Parsed> {
  if (message.size > PARSE_LIMIT) {
    return unparsed(`${String(message.size)} octets, more than ${String(PARSE_LIMIT)}, are not taken apart`);
  }
  const parser = new MailParser({
    skipHtmlToText: true,
    skipTextToHtml: true,
    skipTextLinks: true,
    skipImageLinks: true,
    ignoreEmbedded: true,
    checksumAlgo: false,
    maxHeadSize: HEADER_LIMIT,
    maxChildNodes: PARTS_LIMIT,
  });
  const found: { text?: MessageText; attachments: Attachments } = { attachments: [] };
  const timer = setTimeout(() => {
    parser.destroy(new Error(`not taken apart within ${String(TIME_LIMIT / 1000)} s`));
  }, TIME_LIMIT);
  try {
    const parts = parser as AsyncIterable<AttachmentStream | MessageText>;
    await Promise.all([pipeline(withinLines(octetsOf(message)), parser), collect(parts, found)]);
    return { ...taken(parser, found), date: dateIn(message) };
  } catch (error) {
    if (error instanceof Failure) throw error;
    // hostile or broken mail: whatever the parser dislikes, the receiver still gets the message itself
    return unparsed(printable(reasonOf(error)) || 'the message could not be parsed');
  } finally {
    clearTimeout(timer);
  }
}

async function* withinLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  let lines = 0;
  for await (const chunk of chunks) {
    for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, at + 1)) lines++;
    if (lines > LINE_LIMIT) throw new Error(`more than ${String(LINE_LIMIT)} lines are not taken apart`);
    yield chunk;
  }
}

async function collect(
  parts: AsyncIterable<AttachmentStream | MessageText>,
  found: { text?: MessageText; attachments: Attachments },
): Promise<void> {
  for await (const part of parts) {
    if (part.type === 'text') found.text = part;
    else found.attachments.push(await attachmentOf(part));
  }
}

async function attachmentOf(part: AttachmentStream): Promise<Attachments[number]> {
  const chunks: Buffer[] = [];
  for await (const chunk of part.content as AsyncIterable<Buffer>) chunks.push(chunk);
  part.release?.();
  const content = Buffer.concat(chunks);
  return {
    filename: part.filename ?? null,
    contentType: part.contentType.toLowerCase(),
    disposition: part.contentDisposition ?? null,
    contentId: part.cid ?? null,
    size: content.length,
    content: content.toString('base64'),
  };
}

function taken(parser: MailParser, { text, attachments }: { text?: MessageText; attachments: Attachments }): Parsed {
  return {
    from: mailboxes(parser.from),
    to: mailboxes(parser.to),
    cc: mailboxes(parser.cc),
    replyTo: mailboxes(parser.replyTo),
    subject: parser.subject ?? null,
    date: null,
    messageId: parser.messageId ?? null,
    text: text?.text ?? null,
    html: text?.html ?? null,
    attachments,
    parseError: null,
  };
}

// Not the parser's, which has the current time for a date that is none.
function dateIn(message: StoredMessage): string | null {
  const value = firstField(headerFields(message.header), 'date');
  if (value === undefined) return null;
  const time = Date.parse(value.replace(/\([^()]*\)/g, ' ').slice(0, 100));
  return Number.isNaN(time) ? printable(value, 100) : new Date(time).toISOString();
}

function unparsed(parseError: string): Parsed {
  const nobody = { from: [], to: [], cc: [], replyTo: [] };
  const nothing = { subject: null, date: null, messageId: null, text: null, html: null, attachments: [] };
  return { ...nobody, ...nothing, parseError };
}

function mailboxes(found: AddressObject | AddressObject[] | undefined): { name: string; address: string }[] {
  const objects = found === undefined ? [] : Array.isArray(found) ? found : [found];
  const all = objects.flatMap(({ value }) => value.flatMap((one) => one.group ?? [one]));
  return all.map(({ name, address }) => ({ name, address: address ?? '' }));
}

function decoded(value: string): string {
  const octets = Buffer.from(value, 'latin1');
  const text = octets.toString('utf8');
  return libmime.decodeWords(text.includes('\ufffd') ? value : text);
}
