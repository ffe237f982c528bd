/**
 * Signatures of Standard Webhooks (standardwebhooks.com; pure): HMAC-SHA256 over `id.timestamp.body`, octets as sent. The
 * key never shows anywhere.
 */

import { createHmac } from 'node:crypto';
import { Failure } from '../failure.ts';

const PREFIX = 'whsec_';

/** The key in a secret: base64 behind `whsec_`. Throws a `Failure` that does not repeat the secret. */
export function webhookKey(secret: string): Buffer {
  const base64 = secret.trim().startsWith(PREFIX) ? secret.trim().slice(PREFIX.length) : secret.trim();
  const key = Buffer.from(base64, 'base64');
  if (key.length < 16 || key.toString('base64').replace(/=+$/, '') !== base64.replace(/=+$/, '')) {
    throw new Failure('the webhook secret is no key', {
      scope: 'destination',
      code: 'webhook.secret',
      remedy: `Make one with: echo "${PREFIX}$(openssl rand -base64 32)", and give it to the receiver too.`,
    });
  }
  return key;
}

/**
 * The three headers, with one signature for each key, so that a receiver may know the old or the new one. The body is
 * read once and not kept.
 */
export async function signatureHeaders(
  keys: readonly Buffer[],
  id: string,
  time: Date,
  body: AsyncIterable<Buffer>,
): Promise<Record<string, string>> {
  const timestamp = String(Math.floor(time.getTime() / 1000));
  const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp };
  if (keys.length === 0) return headers;
  const macs = keys.map((key) => createHmac('sha256', key).update(`${id}.${timestamp}.`));
  for await (const chunk of body) for (const mac of macs) mac.update(chunk);
  return { ...headers, 'webhook-signature': macs.map((mac) => `v1,${mac.digest('base64')}`).join(' ') };
}
