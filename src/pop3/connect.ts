/**
 * Opens the TCP connection to a server, directly or through a proxy, under one deadline. All addresses of a name are
 * tried, IPv6 and IPv4 in turn (RFC 8305). Ends every socket that it does not hand out.
 */

import { connect, isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import { reasonOf } from '../failure.ts';
import { Ended, settled, withDeadline } from './deadline.ts';
import type { Bounds } from './deadline.ts';
import { Pop3Error } from './error.ts';
import { openTunnel, parseProxy, ProxyRefusal } from './proxy.ts';
import type { ProxyPlace } from './proxy.ts';

export interface Place {
  readonly host: string;
  readonly port: number;
}

/** `timeout` bounds everything: names, all addresses, the proxy's handshake. */
export interface ConnectOptions extends Place, Bounds {
  /** Local address to connect from; also fixes the address family. */
  readonly sourceAddress?: string | undefined;
  /** `socks5://` or `http://` URL, credentials included; never shown. */
  readonly proxy?: string | undefined;
}

// How long one address may take before the next is tried. Node gives the connection up then, so this is not the 250 ms
// of RFC 8305, which a satellite link would never meet.
const ATTEMPT = 1000;

/** `host:port`, for messages. */
export function placeName({ host, port }: Place): string {
  return host.includes(':') ? `[${host}]:${String(port)}` : `${host}:${String(port)}`;
}

/**
 * A connected socket, not yet read from and without listeners: the caller must add its own (`error` first) before it
 * waits for anything else. Throws a `Pop3Error` of kind `connect` that says what to do about it.
 */
export async function connectSocket(options: ConnectOptions): Promise<Socket> {
  const server = placeName(options);
  const proxy = options.proxy === undefined ? undefined : parseProxy(options.proxy);
  let socket: Socket | undefined;
  try {
    return await withDeadline(options, async (signal) => {
      signal.throwIfAborted();
      socket = dial(proxy ?? options, options.sourceAddress);
      await established(socket, signal);
      if (proxy !== undefined) await openTunnel(socket, proxy, options, signal);
      return socket;
    });
  } catch (error) {
    socket?.on('error', ignoreLateError);
    socket?.destroy();
    throw explained(error, server, proxy);
  }
}

function dial({ host, port }: Place, sourceAddress: string | undefined): Socket {
  return connect({
    host,
    port,
    noDelay: true, // a window of small commands is one write already; waiting for more only costs a round trip
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ATTEMPT,
    ...(sourceAddress === undefined ? {} : { localAddress: sourceAddress, family: isIPv6(sourceAddress) ? 6 : 4 }),
  });
}

function established(socket: Socket, signal: AbortSignal): Promise<void> {
  return settled(signal, (resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
    return () => {
      socket.removeListener('connect', resolve);
      socket.removeListener('error', reject);
    };
  });
}

function explained(error: unknown, server: string, proxy: ProxyPlace | undefined): Pop3Error {
  const by = proxy === undefined ? '' : ` through the proxy ${placeName(proxy)}`;
  const failure = (why: string, remedy: string | undefined, said?: string): Pop3Error =>
    new Pop3Error(`cannot connect to ${server}${by}: ${why}`, {
      kind: 'connect',
      server,
      cause: error,
      ...(said === undefined ? {} : { said }),
      ...(remedy === undefined ? {} : { remedy }),
    });

  if (error instanceof ProxyRefusal) return failure(error.message, error.remedy, error.said);
  if (error instanceof Ended) {
    return failure(error.message, error.kind === 'timeout' ? remedyFor('ETIMEDOUT', proxy !== undefined) : undefined);
  }
  const code = codeOf(error);
  if (code === undefined) throw error; // not the network's: a bug
  return failure(wordsFor(code) ?? reasonOf(error), remedyFor(code, proxy !== undefined));
}

/** The system's code; where several addresses failed, that which says most: a refusal came from the server itself. */
function codeOf(error: unknown): string | undefined {
  if (error instanceof AggregateError) {
    const codes = error.errors.map(codeOf);
    return codes.find((code) => code === 'ECONNREFUSED') ?? codes.find((code) => code !== undefined);
  }
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

function wordsFor(code: string): string | undefined {
  switch (code) {
    case 'ENOTFOUND':
      return 'there is no host of that name';
    case 'EAI_AGAIN':
      return 'the name could not be looked up';
    case 'ECONNREFUSED':
      return 'connection refused';
    case 'ECONNRESET':
      return 'the connection was reset';
    case 'ETIMEDOUT':
      return 'no answer';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'there is no route to it';
    case 'EADDRNOTAVAIL':
      return 'the source address cannot be used';
    default:
      return undefined;
  }
}

function remedyFor(code: string, proxied: boolean): string | undefined {
  switch (code) {
    case 'ENOTFOUND':
      return proxied ? "Check the spelling of the `proxy`'s host." : 'Check the spelling of `host`.';
    case 'EAI_AGAIN':
      return 'Check the DNS of this machine.';
    case 'ECONNREFUSED':
      return proxied
        ? 'Nothing listens there: check the `proxy`, and that it runs.'
        : 'Nothing listens there: check `host` and `port` (995 for `security: tls`, 110 for `starttls` and `none`).';
    case 'ETIMEDOUT':
      return `Check ${proxied ? 'the `proxy`' : '`host` and `port`'}, and that no firewall swallows the connection.`;
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'Check the network and routes of this machine.';
    case 'EADDRNOTAVAIL':
    case 'EINVAL':
      return 'Check that `sourceAddress` is an address of this machine, and of the same family as the server.';
    case 'EACCES':
    case 'EPERM':
      return 'A firewall or sandbox of this machine forbids the connection.';
    default:
      return undefined;
  }
}

function ignoreLateError(): void {
  // the failure has been reported; what a socket says while it is being destroyed is no news
}
