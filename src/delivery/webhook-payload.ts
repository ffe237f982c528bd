/**
 * The body of a webhook in the format `json`, as its receiver sees it. One schema gives the types and, by
 * `payloadJsonSchema`, the published JSON Schema (`config/webhook.schema.json`; a test holds the two together).
 */

import * as z from 'zod';

const address = z
  .strictObject({ name: z.string(), address: z.string() })
  .describe('A mailbox. Groups are given as their members.');

const attachment = z.strictObject({
  filename: z.string().nullable().describe('As the sender named it: never use it as a path.'),
  contentType: z.string().describe('Lower case, without parameters.'),
  disposition: z.string().nullable().describe('attachment, inline, or what else stands there.'),
  contentId: z.string().nullable().describe('Without angle brackets.'),
  size: z.int().describe('Octets, decoded.'),
  content: z.string().describe('Base64.'),
});

export const webhookPayload = z.strictObject({
  version: z.literal(1),
  id: z.string().describe('The same for every attempt at this delivery; equal to the header webhook-id.'),
  account: z.string().describe('The account that the message was retrieved from.'),
  destination: z.string(),
  uniqueId: z.string().describe('The unique-id (UIDL) that the POP3 server gave the message.'),
  attempt: z.int().describe('1 for the first.'),
  firstSeen: z.iso.datetime().describe('When mailferry first saw the message.'),
  size: z.int().describe('Octets of the message.'),
  sha256: z.string().describe('SHA-256 of the message, hexadecimal.'),
  headers: z
    .array(z.strictObject({ name: z.string(), value: z.string() }))
    .describe('All header fields in their order, unfolded, encoded words decoded.'),
  from: z.array(address),
  to: z.array(address),
  cc: z.array(address),
  replyTo: z.array(address),
  subject: z.string().nullable(),
  date: z.string().nullable().describe('ISO 8601, or what stands there if it is no date.'),
  messageId: z.string().nullable(),
  text: z.string().nullable(),
  html: z.string().nullable().describe('As it came: not made safe to show.'),
  attachments: z.array(attachment),
  parseError: z
    .string()
    .nullable()
    .describe(
      'Why text, html, attachments and addresses are missing, if so. The message itself is in raw all the same.',
    ),
  raw: z.string().describe('The message, octet for octet, in base64.'),
});

/** The whole payload. */
export type WebhookPayload = z.infer<typeof webhookPayload>;

/** The payload without the message itself, which is appended as it is read. */
export type WebhookPayloadHead = Omit<WebhookPayload, 'raw'>;

/** The schema in the form that is published. */
export function payloadJsonSchema(): Record<string, unknown> {
  return { title: 'mailferry webhook, format json', ...z.toJSONSchema(webhookPayload, { target: 'draft-2020-12' }) };
}
