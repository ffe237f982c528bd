/**
 * A sandbox webhook receiver on loopback: takes a POST whose Standard Webhooks signature is right and recent, refuses all
 * else. It checks by the specification alone, with nothing of the sender's code.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { arrivalOf } from './arrival.ts';
import type { Arrival } from './arrival.ts';

/** Octets of a body that it takes. */
const SIZE_LIMIT = 32 * 1024 * 1024;
/** How old a request may be, or ahead of our clock. Seconds. */
const TOLERANCE = 5 * 60;

export class WebhookReceiver {
  readonly #server: Server;
  readonly #key: Buffer;
  readonly #arrivals: Arrival[] = [];

  private constructor(secret: string) {
    this.#key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch(() => response.destroy());
    });
  }

  /** Listens on a free port. @param secret `whsec_...` */
  static async open(secret: string): Promise<WebhookReceiver> {
    const receiver = new WebhookReceiver(secret);
    receiver.#server.listen(0, '127.0.0.1');
    await once(receiver.#server, 'listening');
    return receiver;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The body of every request that was answered 2xx. */
  get arrivals(): readonly Arrival[] {
    return this.#arrivals;
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size <= SIZE_LIMIT) chunks.push(chunk);
    }
    const body = Buffer.concat(chunks);
    const answer = (status: number, text: string): void => void response.writeHead(status).end(text);
    if (request.method !== 'POST' || request.url !== '/inbound') answer(404, 'POST /inbound');
    else if (size > SIZE_LIMIT) answer(413, 'too large');
    else if (!isSigned(request.headers, body, this.#key, Date.now() / 1000)) answer(401, 'wrong signature');
    else {
      this.#arrivals.push(arrivalOf(body));
      answer(200, `signature right, ticket #${String(this.#arrivals.length)}`);
    }
  }
}

/** @param now seconds since 1970 */
function isSigned(headers: IncomingHttpHeaders, body: Buffer, key: Buffer, now: number): boolean {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = headers;
  if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string') return false;
  if (!(Math.abs(now - Number(timestamp)) <= TOLERANCE)) return false;
  const wanted = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest();
  return signatures.split(' ').some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ''), 'base64');
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  });
}
