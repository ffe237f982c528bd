/** Opening a TCP connection or a Unix socket within a time. Names are resolved as the system does (hosts file included). */

import { connect } from 'node:net';
import type { LookupFunction, Socket } from 'node:net';
import { Failure } from '../failure.ts';

/** A host and port, or a Unix socket. */
export type Place = { readonly host: string; readonly port: number } | { readonly path: string };

/** `host:port` or the path, for messages. */
export function placeName(place: Place): string {
  if ('path' in place) return place.path;
  return place.host.includes(':') ? `[${place.host}]:${String(place.port)}` : `${place.host}:${String(place.port)}`;
}

export interface DialOptions {
  readonly signal?: AbortSignal;
  /** In place of the system's own; see `net.connect`. */
  readonly lookup?: LookupFunction;
}

/**
 * Connects. The caller owns the socket, which has no listeners left on it.
 * Throws a `Failure` (`CODE.connect`, scope destination) when that fails, takes longer than `timeout` milliseconds, or
 * `signal` aborts; and what `lookup` throws.
 */
export async function dial(place: Place, code: string, timeout: number, options: DialOptions = {}): Promise<Socket> {
  const { signal, lookup } = options;
  const server = placeName(place);
  const refuse = (reason: string, remedy: string | undefined, cause?: unknown): Failure =>
    new Failure(`cannot connect to ${server}: ${reason}`, {
      scope: 'destination',
      code: `${code}.connect`,
      server,
      ...(remedy === undefined ? {} : { remedy }),
      cause,
    });
  if (signal?.aborted === true) throw refuse('stopped', undefined);
  const socket =
    'path' in place
      ? connect({ path: place.path })
      : connect({
          host: place.host,
          port: place.port,
          autoSelectFamily: true,
          noDelay: true,
          ...(lookup === undefined ? {} : { lookup }),
        });
  let cleanUp: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(refuse(`no answer within ${String(Math.ceil(timeout / 1000))} s`, 'Check host, port and firewall.'));
      }, timeout);
      const abort = (): void => {
        reject(refuse('stopped', undefined));
      };
      const failed = (error: NodeJS.ErrnoException): void => {
        const known = error instanceof Failure;
        reject(known ? error : refuse(error.code ?? error.message, connectRemedy(error.code), error));
      };
      signal?.addEventListener('abort', abort, { once: true });
      socket.once('connect', resolve).once('error', failed);
      cleanUp = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        socket.off('connect', resolve).off('error', failed);
      };
    });
    return socket;
  } catch (error) {
    socket.on('error', ignoreLateError);
    socket.destroy();
    throw error;
  } finally {
    cleanUp?.();
  }
}

/** What an operator can do about a failed connection, by the system's error code. */
export function connectRemedy(code: string | undefined): string | undefined {
  switch (code) {
    case 'ECONNREFUSED':
      return 'Nothing listens there: check host and port, and that the server runs.';
    case 'ENOTFOUND':
      return 'No such host name: check the spelling.';
    case 'EAI_AGAIN':
      return 'The name could not be looked up: check the DNS of this machine.';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'There is no way to that network: check routing and firewall.';
    case undefined:
    default:
      return undefined;
  }
}

function ignoreLateError(): void {
  // the failure has been reported; a second error of a socket that is being destroyed says nothing new
}
