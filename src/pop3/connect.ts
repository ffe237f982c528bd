/** Opening the TCP connection of a session, within one deadline. */

import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { reasonOf } from '../failure.ts';
import { Pop3Error } from './error.ts';

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  /** Milliseconds, all of it. */
  readonly timeout: number;
  readonly signal?: AbortSignal | undefined;
  /** Local address to connect from. */
  readonly sourceAddress?: string | undefined;
  readonly proxy?: string | undefined;
}

/** @throws Pop3Error of kind `connect` with what to do about it */
export async function connectSocket({ host, port, timeout, signal, sourceAddress }: ConnectOptions): Promise<Socket> {
  const server = `${host}:${port}`;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({
    host,
    port,
    noDelay: true,
    keepAlive: true,
    // RFC 8305: the other address family after a short wait.
    autoSelectFamily: true,
    ...(sourceAddress === undefined ? {} : { localAddress: sourceAddress }),
  });
  const timer = setTimeout(
    () => reject(failure(server, 'no answer', 'Check host and port, and whether a firewall is in between.')),
    timeout,
  );
  const stop = (): void => reject(failure(server, 'stopped'));
  const failed = (error: Error): void => reject(failure(server, reasonOf(error), remedyFor(error), error));
  signal?.addEventListener('abort', stop, { once: true });
  socket.once('connect', resolve).once('error', failed);
  try {
    if (signal?.aborted === true) stop();
    await promise;
    return socket;
  } catch (error) {
    socket.on('error', () => undefined).destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
    socket.off('connect', resolve).off('error', failed);
  }
}

function remedyFor(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOTFOUND':
      return 'There is no such host name: check "host".';
    case 'EAI_AGAIN':
      return 'The name could not be looked up: check the DNS of this machine.';
    case 'ECONNREFUSED':
      return 'Nothing listens there: check "port" (995 for security: tls, 110 for starttls or none).';
    case undefined:
    default:
      return 'Check host and port, and whether a firewall is in between.';
  }
}

function failure(server: string, reason: string, remedy?: string, cause?: unknown): Pop3Error {
  return new Pop3Error(`cannot connect to ${server}: ${reason}`, {
    kind: 'connect',
    server,
    cause,
    ...(remedy === undefined ? {} : { remedy }),
  });
}
