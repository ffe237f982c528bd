/** The sandbox webhook receiver, spoken to with signatures of the standard's own library. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { WebhookReceiver } from '../../src/demo/webhook-receiver.ts';
import { assertNoLeaks } from '../support/leaks.ts';

assertNoLeaks();

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const BODY = 'Message-ID: <1@x>\r\n\r\nhello\r\n';

interface Attempt {
  readonly secret?: string;
  readonly at?: Date;
  readonly body?: string;
  readonly path?: string;
  readonly signed?: boolean;
}

async function post(receiver: WebhookReceiver, attempt: Attempt = {}): Promise<number> {
  const { secret = SECRET, at = new Date(), body = BODY, path = '/inbound', signed = true } = attempt;
  const headers: Record<string, string> = { 'webhook-id': 'msg_1', connection: 'close' };
  if (signed) {
    headers['webhook-timestamp'] = String(Math.floor(at.getTime() / 1000));
    headers['webhook-signature'] = `v1,AAAA ${new Webhook(secret).sign('msg_1', at, BODY)}`;
  }
  const response = await fetch(`http://127.0.0.1:${String(receiver.port)}${path}`, { method: 'POST', body, headers });
  await response.text();
  return response.status;
}

describe('the sandbox webhook receiver', () => {
  test('takes what is signed, and nothing else', async () => {
    const receiver = await WebhookReceiver.open(SECRET);
    try {
      assert.equal(await post(receiver), 200);
      assert.equal(receiver.arrivals[0]?.messageId, '<1@x>');
      assert.equal(await post(receiver, { secret: `whsec_${Buffer.alloc(32, 8).toString('base64')}` }), 401);
      assert.equal(await post(receiver, { body: `${BODY}more` }), 401);
      assert.equal(await post(receiver, { at: new Date(Date.now() - 10 * 60_000) }), 401);
      assert.equal(await post(receiver, { signed: false }), 401);
      assert.equal(await post(receiver, { path: '/elsewhere' }), 404);
      assert.equal(receiver.arrivals.length, 1);
    } finally {
      await receiver.close();
    }
  });
});
