/**
 * A scriptable webhook receiver on loopback for tests: reads each request whole, hashes it, checks its signature, answers.
 *
 *   await using sink = await startHttpSink({ secret: 'whsec_...' });
 *   sink.when({ times: 1, action: { status: 503, headers: { 'retry-after': '120' } } });
 *   ... deliver to sink.url ...
 *   sink.requests[0].sha256, .headers['webhook-id'], .signature
 *
 * Rules are asked in the order they were added, for each request; the first that fits acts. Without a rule the answer is 200.
 */

import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { readFileSync } from 'node:fs';
import { TLSSocket } from 'node:tls';
import { caFile, certificate } from './tls.ts';
import type { CertificateName } from './tls.ts';
import { until } from './wait.ts';

export type HttpAction =
  /** An answer, after the whole request has been read. */
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  /** Ends the connection: at the request's header, or when the whole request has been read. */
  | 'dropAtHeader'
  | 'dropAfterBody'
  /** Reads the header and no more of the request, and never answers. */
  | 'stallAtHeader'
  /** Reads the request and never answers. */
  | 'stallAfterBody'
  /** Answers 200 before it has read the request. */
  | 'answerAtHeader'
  /** 200 and a body without end, or one that never comes. */
  | 'endlessAnswer'
  | 'stallInAnswer';

export interface HttpMoment {
  readonly headers: IncomingHttpHeaders;
  readonly path: string;
}

export interface HttpRule {
  readonly if?: (moment: HttpMoment) => boolean;
  /** How often it acts; left out: for ever. */
  readonly times?: number;
  readonly action: HttpAction | ((moment: HttpMoment) => Promise<HttpAction | undefined>);
}

/** A request that was read whole, whatever was answered. */
export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly size: number;
  readonly sha256: string;
  /** The octets, if there are at most `keep` of them. */
  readonly body: Buffer | undefined;
  /** What the signature is worth; `absent` if there is none, or no secret to check it with. */
  readonly signature: 'right' | 'wrong' | 'absent';
  /** The status that was answered; undefined if none was. */
  readonly status: number | undefined;
  /** Counts connections from 1. */
  readonly connection: number;
  /** The subject of the client's certificate, if it showed one that our authority signed. */
  readonly client: string | undefined;
}

export interface HttpSinkOptions {
  readonly secret?: string;
  readonly tls?: CertificateName;
  /** Ask for a client certificate, and refuse those without. */
  readonly clientCertificate?: boolean;
  /** Octets of a body that are kept; default 1 MB. */
  readonly keep?: number;
}

export interface HttpSink extends AsyncDisposable {
  readonly url: string;
  readonly host: '127.0.0.1';
  readonly port: number;
  readonly requests: readonly HttpRequest[];
  /** Those that were answered 2xx, in that order. */
  readonly accepted: readonly HttpRequest[];
  readonly connections: number;
  readonly open: number;
  /** The most requests that were being served at one time. */
  readonly peak: number;
  /** Adds a rule. Returns a function that takes it away. */
  when(rule: HttpRule): () => void;
  /** Ends all connections that are open now. */
  dropAll(): void;
  /** Waits until so many requests have been accepted. */
  arrived(count: number): Promise<readonly HttpRequest[]>;
  close(): Promise<void>;
  /** Listens again where it did before `close`. */
  reopen(port: number): Promise<void>;
}

/** Starts a sink on a free port. */
export async function startHttpSink(options: HttpSinkOptions = {}): Promise<HttpSink> {
  const sink = new Sink(options);
  await sink.start();
  return sink;
}

class Sink implements HttpSink {
  readonly host = '127.0.0.1';
  readonly requests: HttpRequest[] = [];
  readonly #options: HttpSinkOptions;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets = new Map<Socket, number>();
  readonly #rules = new Map<HttpRule, { left: number }>();
  #busy = 0;
  connections = 0;
  peak = 0;

  constructor(options: HttpSinkOptions) {
    this.#options = options;
    const listener = (request: IncomingMessage, response: ServerResponse): void => {
      this.#serve(request, response).catch(() => {
        // a client that hangs up in the middle is what many tests are about
        response.destroy();
      });
    };
    const clients = options.clientCertificate === true ? { requestCert: true, ca: readFileSync(caFile) } : {};
    this.#server =
      options.tls === undefined
        ? createServer(listener)
        : createTlsServer({ ...certificate(options.tls), ...clients }, listener);
    this.#server.on('connection', (socket: Socket) => {
      this.connections++;
      this.#sockets.set(socket, this.connections);
      socket.on('error', () => {
        // see above
      });
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  async start(port = 0): Promise<void> {
    this.#server.listen(port, this.host);
    await once(this.#server, 'listening');
  }

  reopen(port: number): Promise<void> {
    return this.start(port);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `${this.#options.tls === undefined ? 'http' : 'https'}://${this.host}:${String(this.port)}/inbound`;
  }

  get accepted(): readonly HttpRequest[] {
    return this.requests.filter(({ status = 0 }) => status >= 200 && status < 300);
  }

  get open(): number {
    return this.#sockets.size;
  }

  when(rule: HttpRule): () => void {
    this.#rules.set(rule, { left: rule.times ?? Number.POSITIVE_INFINITY });
    return () => {
      this.#rules.delete(rule);
    };
  }

  dropAll(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
  }

  arrived(count: number): Promise<readonly HttpRequest[]> {
    const arrived = (): readonly HttpRequest[] | undefined =>
      this.accepted.length < count ? undefined : this.accepted;
    return until(arrived, { what: `${String(count)} requests accepted` });
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    this.dropAll();
    await once(this.#server, 'close');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #decide(moment: HttpMoment): Promise<HttpAction> {
    for (const [rule, count] of this.#rules) {
      if (count.left === 0 || rule.if?.(moment) === false) continue;
      count.left--;
      const action = typeof rule.action === 'function' ? await rule.action(moment) : rule.action;
      return action ?? { status: 200 };
    }
    return { status: 200 };
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const moment = { headers: request.headers, path: request.url ?? '/' };
    const action = await this.#decide(moment);
    if (action === 'dropAtHeader') request.socket.destroy();
    if (action === 'dropAtHeader' || action === 'stallAtHeader') return;
    if (action === 'answerAtHeader') response.end('early');
    this.#busy++;
    this.peak = Math.max(this.peak, this.#busy);
    try {
      await this.#read(request, moment, action);
    } finally {
      this.#busy--;
    }
    if (action === 'dropAfterBody') request.socket.destroy();
    else if (action === 'endlessAnswer') {
      const chunk = Buffer.alloc(16 * 1024, 'x');
      const more = (): void => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on('drain', more);
      more();
    } else if (action === 'stallInAnswer') response.write('and then ');
    else if (typeof action === 'object')
      response.writeHead(action.status, { ...action.headers }).end(action.body ?? '');
  }

  async #read(request: IncomingMessage, moment: HttpMoment, action: HttpAction): Promise<void> {
    const { headers, path } = moment;
    const hash = createHash('sha256');
    const mac = this.#mac(headers);
    const kept: Buffer[] = [];
    let size = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length;
      hash.update(chunk);
      mac?.update(chunk);
      if (size <= (this.#options.keep ?? 1_000_000)) kept.push(chunk);
    }
    const expected = mac === undefined ? undefined : `v1,${mac.digest('base64')}`;
    const given = headers['webhook-signature'];
    const { socket } = request;
    this.requests.push({
      method: request.method ?? '',
      path,
      headers,
      size,
      sha256: hash.digest('hex'),
      body: size <= (this.#options.keep ?? 1_000_000) ? Buffer.concat(kept) : undefined,
      signature: verdict(typeof given === 'string' ? given : undefined, expected),
      status:
        typeof action === 'object'
          ? action.status
          : action === 'endlessAnswer' || action === 'stallInAnswer'
            ? 200
            : undefined,
      connection: this.#sockets.get(socket) ?? this.connections,
      client: socket instanceof TLSSocket && socket.authorized ? socket.getPeerX509Certificate()?.subject : undefined,
    });
  }

  #mac(headers: IncomingHttpHeaders): ReturnType<typeof createHmac> | undefined {
    const { 'webhook-id': id, 'webhook-timestamp': timestamp } = headers;
    if (this.#options.secret === undefined || typeof id !== 'string' || typeof timestamp !== 'string') return undefined;
    const key = Buffer.from(this.#options.secret.replace(/^whsec_/, ''), 'base64');
    return createHmac('sha256', key).update(`${id}.${timestamp}.`);
  }
}

function verdict(given: string | undefined, expected: string | undefined): HttpRequest['signature'] {
  if (given === undefined || expected === undefined) return 'absent';
  return given.split(' ').includes(expected) ? 'right' : 'wrong';
}
