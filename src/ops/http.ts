/**
 * The HTTP face of a worker: health, status and metrics, read only. Nothing beyond loopback is served without the token; no
 * CORS, no cookies, no writes.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { HttpConfig } from '../config/types.ts';
import { Failure, reasonOf } from '../failure.ts';
import { metricsText } from './metrics.ts';
import type { DestinationStatus } from './metrics.ts';
import type { AccountStatus } from './status.ts';

/** Connections at a time; one operator and a scraper need few. */
const MAX_CONNECTIONS = 64;

export interface HttpSource {
  /** @returns undefined if the worker is well, else what is wrong */
  health(): Promise<string | undefined>;
  status(): Promise<readonly AccountStatus[]>;
  /** The destinations of the config, and whether they get nothing for now. */
  destinations(): Promise<readonly DestinationStatus[]>;
  /** True while the config as it is written is wrong, and the one from before in use. */
  configRefused(): boolean;
}

export interface HttpFace {
  /** `host:port` it listens on. */
  readonly address: string;
  close(): Promise<void>;
}

/** Starts to listen. @throws Failure if the address is taken or the token cannot be read */
export async function openHttp(config: HttpConfig, source: HttpSource): Promise<HttpFace> {
  const token = await config.token?.reveal();
  const server = createServer({ connectionsCheckingInterval: 2000 }, (request, response) => {
    answer(request, response, source, token).catch((error: unknown) => {
      send(response, 503, 'text/plain; charset=utf-8', `${reasonOf(error)}\n`);
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = 10_000;
  server.headersTimeout = 5000;
  await listen(server, config);
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : config.port;
  return {
    address: `${config.host}:${port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  source: HttpSource,
  token: string | undefined,
): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost');
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return send(response, 405, 'text/plain; charset=utf-8', 'GET only\n');
  if (pathname === '/health') {
    const problem = await source.health();
    return send(
      response,
      problem === undefined ? 200 : 503,
      'text/plain; charset=utf-8',
      `${problem === undefined ? 'healthy' : 'unhealthy'}\n`,
    );
  }
  if (token !== undefined && !isAuthorized(request.headers.authorization, token)) {
    response.setHeader('www-authenticate', 'Bearer');
    return send(response, 401, 'text/plain; charset=utf-8', 'a bearer token is needed\n');
  }
  if (pathname === '/status')
    return send(response, 200, 'application/json', `${JSON.stringify(await source.status(), undefined, 2)}\n`);
  if (pathname === '/metrics')
    return send(
      response,
      200,
      'text/plain; version=0.0.4; charset=utf-8',
      metricsText(await source.status(), await source.destinations(), Date.now(), source.configRefused()),
    );
  return send(response, 404, 'text/plain; charset=utf-8', 'there are /health, /status and /metrics\n');
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'content-type': type,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(body);
}

/** Compares digests, so that the time it takes tells nothing of the token. */
function isAuthorized(header: string | undefined, token: string): boolean {
  const given = /^Bearer +(.+)$/i.exec(header ?? '')?.[1] ?? '';
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

async function listen(server: Server, { host, port }: HttpConfig): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    throw new Failure(`Cannot listen on ${host}:${port}: ${reasonOf(error)}`, {
      scope: 'process',
      code: 'http.listen',
      remedy: 'Set http.listen to a free address of this machine, or leave http out.',
      cause: error,
    });
  }
}
