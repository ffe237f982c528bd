/**
 * The webhook destination: one POST for each delivery, signed, on connections that are kept. It never follows a redirect,
 * never reads an endless answer, and confirms nothing but 2xx to a request that was sent whole.
 */

import { createRequire } from 'node:module';
import type { Pool as UndiciPool } from 'undici';
import type { Secret, WebhookConfig } from '../config/types.ts';
import { Failure, reasonOf } from '../failure.ts';
import { revealed } from '../redact.ts';
import { printable, printableOctets } from '../untrusted.ts';
import { noProgress, tracked } from './content.ts';
import { withDeadline } from './deadline.ts';
import type { Delivery, Destination, DestinationContext, Outcome } from './destination.ts';
import { connectRemedy } from './dial.ts';
import { guardedConnector } from './http-connector.ts';
import { postHttp } from './http-exchange.ts';
import { httpOutcome } from './http-outcome.ts';
import { Gate } from './limited.ts';
import { signature, stampOf, webhookKey } from './standard-webhooks.ts';
import { tlsRemedy } from './tls.ts';
import { webhookBody } from './webhook-body.ts';
import { metadataHeaders } from './webhook-metadata.ts';

const require = createRequire(import.meta.url);
const Pool = clientOnly();

// Of an answer this much is read; one that is longer, or slower, costs its connection.
const ANSWER = { octets: 64 * 1024, time: 5_000 };
// Shorter than Node's own servers keep a connection: a request to one that just closed would be in doubt for nothing.
const IDLE_TIMEOUT = 4_000;
/** Octets; from here on a message that is taken apart, and then in memory some times over, goes one at a time. */
const LARGE = 2 * 1024 * 1024;
const CHECK_TIMEOUT = 30_000;

/** Of undici the client alone: the whole of it takes 80 ms more of CPU to load. One that has it elsewhere is loaded whole. */
function clientOnly(): typeof UndiciPool {
  try {
    return require('undici/lib/dispatcher/pool.js') as typeof UndiciPool;
  } catch {
    return (require('undici') as { Pool: typeof UndiciPool }).Pool;
  }
}

export function openWebhook(config: WebhookConfig, context: DestinationContext): Destination {
  const url = new URL(config.url);
  revealed.rememberUrl(config.url);
  revealed.rememberHeaders(config.headers);
  const connect = guardedConnector(config);
  const large = new Gate(1);
  const path = `${url.pathname}${url.search}`;
  const further = new Map(Object.entries(config.headers).map(([name, value]) => [name.toLowerCase(), value]));
  const secrets = [config.secret, ...(config.moreSecrets ?? [])].filter((secret) => secret !== undefined);
  const pool = new Pool(url.origin, {
    connect,
    connections: config.concurrency,
    pipelining: 1,
    keepAliveTimeout: IDLE_TIMEOUT,
    // The deadline of the delivery is the only one: these would cut off a slow receiver in the middle.
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
  });

  async function deliver(delivery: Delivery): Promise<Outcome> {
    if (config.format === 'raw' || delivery.message.size < LARGE) return post(delivery);
    if (!(await large.enter(delivery.signal))) {
      return { kind: 'deferred', said: printable(reasonOf(delivery.signal.reason)), scope: 'message' };
    }
    try {
      return await post(delivery);
    } finally {
      large.leave();
    }
  }

  async function post(delivery: Delivery): Promise<Outcome> {
    const progress = noProgress();
    try {
      // What this destination has none of is not waited for: each wait costs every message.
      const made = webhookBody(config, delivery);
      const body = made instanceof Promise ? await made : made;
      const headers: Record<string, string> = metadataHeaders(delivery, config.name);
      headers['user-agent'] = 'mailferry';
      headers['content-type'] = body.contentType;
      headers['content-length'] = String(body.length);
      for (const [name, value] of further) if (!Object.hasOwn(headers, name)) headers[name] = value;
      if (config.auth) headers['authorization'] = await authorization(config.auth);
      const stamp = stampOf(delivery.idempotencyKey, context.now());
      headers['webhook-id'] = stamp.id;
      headers['webhook-timestamp'] = stamp.timestamp;
      if (secrets.length > 0) headers['webhook-signature'] = await signature(await keysOf(secrets), stamp, body.open());
      const { whole } = body;
      const request = { path, headers, body: whole ?? tracked(body.open(), progress) };
      let complete = false;
      const noteStart = (): void => {
        // It goes out in one piece from here on.
        if (whole) progress.started = progress.complete = true;
      };
      const answer = await postHttp(pool, request, ANSWER, delivery.signal, noteStart, () => {
        complete = progress.complete;
      });
      const { status, headers: told } = answer;
      return httpOutcome({ status, headers: told, text: printableOctets(answer.body), complete }, context.now());
    } catch (error) {
      return lossOutcome(error, progress, delivery.signal, url);
    }
  }

  return {
    name: config.name,
    deliver,
    async check(signal): Promise<string> {
      await keysOf(secrets);
      if (config.auth) await authorization(config.auth);
      return withDeadline(signal, CHECK_TIMEOUT, 'no connection', (deadline) => reach(url, connect, deadline));
    },
    close: () => pool.close(),
  };
}

async function keysOf(secrets: readonly Secret[]): Promise<Buffer[]> {
  return Promise.all(secrets.map(async (secret) => webhookKey(await secret.reveal())));
}

async function authorization(auth: NonNullable<WebhookConfig['auth']>): Promise<string> {
  if (auth.kind === 'bearer') return `Bearer ${(await auth.token.reveal()).trim()}`;
  const credentials = Buffer.from(`${auth.user}:${await auth.password.reveal()}`);
  return `Basic ${credentials.toString('base64')}`;
}

function lossOutcome(error: unknown, progress: { readonly complete: boolean }, signal: AbortSignal, url: URL): Outcome {
  const failure = failureIn(error);
  if (failure?.scope === 'message') return { kind: 'deferred', said: printable(failure.message), scope: 'message' };
  const reason = signal.aborted ? reasonOf(signal.reason) : describe(error, url);
  if (!progress.complete) {
    if (signal.aborted) return { kind: 'deferred', said: printable(reason), scope: 'message' };
    // A certificate, an address that is refused, a secret that is not there.
    const isLasting = failure?.permanent ?? tlsRemedy((error as NodeJS.ErrnoException).code) !== undefined;
    const needsPerson = isLasting ? { needsPerson: true } : {};
    return { kind: 'deferred', said: printable(reason), scope: 'destination', ...needsPerson };
  }
  const said = printable(`${reason} after the whole message was sent, before the answer`);
  return { kind: 'inDoubt', said, scope: 'message' };
}

function describe(error: unknown, url: URL): string {
  const failure = failureIn(error);
  if (failure !== undefined) return [failure.message, failure.remedy].filter((part) => part !== undefined).join('; ');
  const { code } = error as NodeJS.ErrnoException;
  const remedy = tlsRemedy(code) ?? connectRemedy(code);
  const words = `${url.host}: ${reasonOf(error) || (code ?? 'the connection failed')}`;
  return remedy === undefined ? words : `${words}; ${remedy}`;
}

function failureIn(error: unknown): Failure | undefined {
  if (error instanceof Failure) return error;
  return error instanceof Error && error.cause instanceof Failure ? error.cause : undefined;
}

/** Connects, TLS included, and hangs up. */
async function reach(url: URL, connect: ReturnType<typeof guardedConnector>, signal: AbortSignal): Promise<string> {
  try {
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => {
        reject(new Error(reasonOf(signal.reason)));
      });
      const { hostname, host, protocol, port } = url;
      connect({ hostname, host, protocol, port }, (error, socket) => {
        socket?.destroy();
        if (error === null) resolve();
        else reject(error);
      });
    });
    return printable(`webhook at ${url.origin}: connected, nothing sent`);
  } catch (error) {
    if (error instanceof Failure) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const remedy = tlsRemedy(code) ?? connectRemedy(code);
    throw new Failure(`cannot connect to ${url.host}: ${printable(reasonOf(error) || (code ?? ''))}`, {
      scope: 'destination',
      code: 'webhook.connect',
      server: url.host,
      ...(remedy === undefined ? {} : { remedy }),
      cause: error,
    });
  }
}
