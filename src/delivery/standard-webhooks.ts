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

/** Which message a request is about, and when it was made: what is signed with its body. */
export interface Stamp {
  /** The same at each attempt. */
  readonly id: string;
  /** Seconds since 1970. */
  readonly timestamp: string;
}

export function stampOf(id: string, time: Date): Stamp {
  return { id, timestamp: String(Math.floor(time.getTime() / 1000)) };
}

/**
 * The value of `webhook-signature`, with one signature for each key, so that a receiver may know the old or the new one. The body
 * is read once and not kept.
 */
export async function signature(
  keys: readonly Buffer[],
  { id, timestamp }: Stamp,
  body: AsyncIterable<Buffer>,
): Promise<string> {
  const macs = keys.map((key) => createHmac('sha256', key).update(`${id}.${timestamp}.`));
  for await (const chunk of body) for (const mac of macs) mac.update(chunk);
  return macs.map((mac) => `v1,${mac.digest('base64')}`).join(' ');
}
