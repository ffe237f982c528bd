/** The places that the demo's mail goes to: a small SMTP server and a webhook, on loopback, that keep what they were given. */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

export interface Receiver {
  readonly port: number;
  /** The octets of each message taken, in order. */
  readonly taken: readonly Buffer[];
  close(): Promise<void>;
}

/** An SMTP server. @param refuse the reply instead of 250 for this message, at the end of DATA; undefined: take it */
export async function openSmtp(refuse: (octets: Buffer) => string | undefined): Promise<Receiver> {
  const taken: Buffer[] = [];
  const server = createServer((socket) => serveSmtp(socket, taken, refuse));
  await listen(server);
  return { port: portOf(server), taken, close: async () => await closed(server) };
}

/** A webhook that takes what is signed with `secret` (`whsec_...`), and refuses all else with 401. */
export async function openWebhook(secret: string): Promise<Receiver> {
  const taken: Buffer[] = [];
  const server = createHttpServer((request, response) => serveWebhook(request, response, secret, taken));
  await listen(server);
  return {
    port: portOf(server),
    taken,
    async close() {
      server.closeAllConnections();
      await closed(server);
    },
  };
}

function serveSmtp(socket: Socket, taken: Buffer[], refuse: (octets: Buffer) => string | undefined): void {
  let rest = Buffer.alloc(0);
  let inData = false;
  const say = (line: string): void => void socket.write(`${line}\r\n`);
  const step = (): boolean => {
    const mark = inData ? '\r\n.\r\n' : '\r\n';
    // An empty message is the dot line alone.
    const at = inData && rest.subarray(0, 3).toString() === '.\r\n' ? -2 : rest.indexOf(mark);
    if (at === -1) return false;
    const unit = rest.subarray(0, at + 2);
    rest = rest.subarray(at + mark.length);
    if (inData) {
      inData = false;
      const octets = unstuffed(unit);
      const refusal = refuse(octets);
      if (refusal === undefined) taken.push(octets);
      say(refusal ?? `250 2.0.0 Ok: queued as DEMO${taken.length}`);
    } else if (/^DATA/i.test(unit.toString('latin1'))) {
      inData = true;
      say('354 go on');
    } else say(smtpReply(unit.toString('latin1')));
    return true;
  };
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    while (step());
  });
  say('220 mailferry demo ESMTP');
}

function smtpReply(command: string): string {
  const verb = command.slice(0, 4).toUpperCase();
  if (verb === 'EHLO') return '250-demo.invalid\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 52428800';
  if (verb === 'QUIT') return '221 2.0.0 bye';
  return ['MAIL', 'RCPT', 'RSET', 'NOOP', 'HELO'].includes(verb) ? '250 2.0.0 Ok' : '502 5.5.1 no such command';
}

function unstuffed(octets: Buffer): Buffer {
  return Buffer.from(octets.toString('latin1').replace(/^\./gm, ''), 'latin1');
}

function serveWebhook(request: IncomingMessage, response: ServerResponse, secret: string, taken: Buffer[]): void {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    const isGood = isSigned(request, body, secret);
    if (isGood) taken.push(body);
    response
      .writeHead(isGood ? 200 : 401)
      .end(isGood ? `taken, signature verified (${taken.length})` : 'bad signature');
  });
}

/** Standard Webhooks: HMAC-SHA256 over id, timestamp and body. */
function isSigned({ headers }: IncomingMessage, body: Buffer, secret: string): boolean {
  const mac = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64'))
    .update(`${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.`)
    .update(body)
    .digest();
  return String(headers['webhook-signature'])
    .split(' ')
    .some((signature) => {
      const given = Buffer.from(signature.replace(/^v1,/, ''), 'base64');
      return given.length === mac.length && timingSafeEqual(given, mac);
    });
}

async function listen(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

async function closed(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}
