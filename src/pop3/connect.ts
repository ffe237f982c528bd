/** Opening the TCP connection of a session: every address of a name, a source address, a proxy; all within one deadline. */

import { connect, isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import { Failure, reasonOf } from '../failure.ts';
import { Ended, settled, withDeadline } from './deadline.ts';
import type { Bounds } from './deadline.ts';
import { Pop3Error } from './error.ts';
import { openTunnel, parseProxy, ProxyRefusal } from './proxy.ts';

export interface Place {
  readonly host: string;
  readonly port: number;
}

export interface ConnectOptions extends Place, Bounds {
  /** Local address to connect from. */
  readonly sourceAddress?: string | undefined;
  /** `socks5://` or `http://`, credentials included: never to be shown. */
  readonly proxy?: string | undefined;
}

/** `host:port`, for messages. */
export function placeName({ host, port }: Place): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * The connected socket, without listeners; all steps together take no longer than `timeout` milliseconds.
 * @throws Pop3Error of kind `connect` with what to do about it
 */
export async function connectSocket(options: ConnectOptions): Promise<Socket> {
  const server = placeName(options);
  const proxy = options.proxy === undefined ? undefined : parseProxy(options.proxy);
  let socket: Socket | undefined;
  try {
    return await withDeadline(options, async (signal) => {
      socket = connect({
        ...(proxy === undefined ? { host: options.host, port: options.port } : { host: proxy.host, port: proxy.port }),
        noDelay: true,
        keepAlive: true,
        // RFC 8305: the other address family after a short wait.
        autoSelectFamily: true,
        ...(options.sourceAddress === undefined ? {} : { localAddress: options.sourceAddress }),
      });
      await connected(socket, signal);
      if (proxy !== undefined) await openTunnel(socket, proxy, options, signal);
      return socket;
    });
  } catch (error) {
    socket?.on('error', ignoreLateError).destroy();
    throw explained(error, server, proxy !== undefined);
  }
}

async function connected(socket: Socket, signal: AbortSignal): Promise<void> {
  await settled<void>(signal, (resolve, reject) => {
    socket.once('connect', resolve).once('error', reject);
    return () => socket.off('connect', resolve).off('error', reject);
  });
}

function explained(error: unknown, server: string, hasProxy: boolean): Failure {
  if (error instanceof Failure) return error;
  const via = hasProxy ? ' through the proxy' : '';
  if (error instanceof ProxyRefusal)
    return failure(`${server} through the proxy`, error.message, error.remedy, error, error.said);
  if (error instanceof Ended) {
    const remedy = error.kind === 'timeout' ? 'Check host and port, and whether a firewall is in between.' : undefined;
    return failure(`${server}${via}`, error.message, remedy, error);
  }
  return failure(
    `${server}${via}`,
    reasonOf(error) || String((error as NodeJS.ErrnoException).code),
    remedyFor(error as NodeJS.ErrnoException),
    error,
  );
}

function remedyFor({ code }: NodeJS.ErrnoException): string {
  switch (code) {
    case 'ENOTFOUND':
      return 'There is no such host name: check "host".';
    case 'EAI_AGAIN':
      return 'The name could not be looked up: check the DNS of this machine.';
    case 'ECONNREFUSED':
      return 'Nothing listens there: check "port" (995 for security: tls, 110 for starttls or none).';
    case 'EADDRNOTAVAIL':
      return 'This machine does not have that sourceAddress.';
    case undefined:
    default:
      return 'Check host and port, and whether a firewall is in between.';
  }
}

function failure(where: string, reason: string, remedy?: string, cause?: unknown, said?: string): Pop3Error {
  return new Pop3Error(`cannot connect to ${where}: ${reason}`, {
    kind: 'connect',
    server: where,
    cause,
    ...(remedy === undefined ? {} : { remedy }),
    ...(said === undefined ? {} : { said }),
  });
}

function ignoreLateError(): void {
  // the failure has been reported; a second error of a socket that is being destroyed says nothing new
}
