/**
 * The body of a webhook request as something that can be read twice, once to sign it and once to send it, and whose length
 * is known before. A message in `raw`, and the copy in `json`, pass through without ever being whole in memory.
 */

import type { WebhookConfig } from '../config/types.ts';
import { octetsOf, SLICE } from './content.ts';
import type { Delivery } from './destination.ts';
import { multipartBody } from './webhook-multipart.ts';
import type { WebhookPayloadHead } from './webhook-payload.ts';

export interface WebhookBody {
  readonly contentType: string;
  /** Octets. */
  readonly length: number;
  /** All of it, where that is little and at hand. */
  readonly whole: Buffer | undefined;
  /** All octets, from the beginning at each call. */
  open(): AsyncGenerator<Buffer, void, undefined>;
}

/** The body of a delivery, at once where nothing need be read for it. Throws a `Failure` only if the stored message cannot be read. */
export function webhookBody(config: WebhookConfig, delivery: Delivery): WebhookBody | Promise<WebhookBody> {
  const { message } = delivery;
  if (config.format !== 'raw') return readBody(config, delivery);
  const whole = message.bytes !== undefined && message.bytes.length <= SLICE ? message.bytes : undefined;
  return { contentType: 'message/rfc822', length: message.size, whole, open: () => octetsOf(message) };
}

async function readBody({ format, name }: WebhookConfig, delivery: Delivery): Promise<WebhookBody> {
  const { message } = delivery;
  const about = await payloadHead(delivery, name);
  if (format === 'multipart') return multipartBody(about, message);
  const head = Buffer.from(JSON.stringify(about).replace(/\}$/, ',"raw":"'));
  const tail = Buffer.from('"}');
  return {
    contentType: 'application/json',
    length: head.length + Math.ceil(message.size / 3) * 4 + tail.length,
    whole: undefined,
    async *open(): AsyncGenerator<Buffer, void, undefined> {
      yield head;
      yield* base64(octetsOf(message));
      yield tail;
    },
  };
}

/** The parser and what it pulls in are loaded where they are used: `raw` needs none of it. */
async function payloadHead(delivery: Delivery, destination: string): Promise<WebhookPayloadHead> {
  const reader = await import('./webhook-message.ts');
  return reader.payloadHead(delivery, destination);
}

async function* base64(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  let rest = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const octets = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const whole = octets.length - (octets.length % 3);
    rest = Buffer.from(octets.subarray(whole));
    if (whole > 0) yield Buffer.from(octets.subarray(0, whole).toString('base64'), 'latin1');
  }
  if (rest.length > 0) yield Buffer.from(rest.toString('base64'), 'latin1');
}
