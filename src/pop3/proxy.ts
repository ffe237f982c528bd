/**
 * Tunnels through SOCKS5 (RFC 1928, 1929) and HTTP CONNECT (RFC 9110 §9.3.6) proxies. Names are resolved by the proxy.
 * The proxy's credentials appear in no error; not one octet behind its answer is taken from the stream.
 */

import { isIPv4, isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import { domainToASCII } from 'node:url';
import { revealed } from '../redact.ts';
import { printable } from '../untrusted.ts';
import { settled } from './deadline.ts';
import { Pop3Error } from './error.ts';

export interface ProxyPlace {
  readonly host: string;
  readonly port: number;
  readonly kind: 'socks5' | 'http';
  readonly credentials: { readonly user: string; readonly password: string } | undefined;
}

/** The proxy answered, and it was a refusal. */
export class ProxyRefusal extends Error {
  override readonly name = 'ProxyRefusal';
  readonly remedy: string | undefined;
  /** The proxy's own words, printable. */
  readonly said: string | undefined;

  constructor(message: string, remedy?: string, said?: string) {
    super(message);
    this.remedy = remedy;
    this.said = said;
  }
}

const LONGEST_HEAD = 16_384;

/** Takes a proxy URL apart. Throws a permanent `Pop3Error` of kind `connect` that does not show it. */
export function parseProxy(text: string): ProxyPlace {
  const wrong = (why: string): Pop3Error =>
    new Pop3Error(`the proxy URL ${why}`, {
      kind: 'connect',
      permanent: true,
      remedy: 'Write it as socks5://USER:PASSWORD@HOST:PORT or http://USER:PASSWORD@HOST:PORT.',
    });
  const url = URL.parse(text);
  if (url === null || url.hostname === '') throw wrong('is not a URL');
  const kind = { 'socks5:': 'socks5', 'socks5h:': 'socks5', 'http:': 'http' }[url.protocol];
  if (kind !== 'socks5' && kind !== 'http') throw wrong('is neither socks5:// nor http://');
  const user = decoded(url.username);
  const password = decoded(url.password);
  if (user === undefined || password === undefined) throw wrong('has credentials that are not percent-encoded');
  revealed.remember(password);
  const credentials = user === '' && password === '' ? undefined : { user, password };
  if (credentials !== undefined && kind === 'socks5' && [user, password].some((one) => !fitsOctet(one))) {
    throw wrong('has a user name or password that is not 1 to 255 octets long, as SOCKS5 wants them');
  }
  if (credentials !== undefined && kind === 'http' && user.includes(':')) throw wrong('has a colon in the user name');
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (kind === 'socks5' ? 1080 : 80) : Number(url.port),
    kind,
    credentials,
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function fitsOctet(text: string): boolean {
  const octets = Buffer.byteLength(text);
  return octets > 0 && octets < 256;
}

/** Asks the proxy at the other end of `socket` for `target`. Throws a `ProxyRefusal`, or what ended the socket. */
export async function openTunnel(
  socket: Socket,
  proxy: ProxyPlace,
  target: { readonly host: string; readonly port: number },
  signal: AbortSignal,
): Promise<void> {
  const host = isIPv6(target.host) ? target.host : domainToASCII(target.host);
  if (host === '' || host.length > 255 || /[^\x21-\x7e]/.test(host)) throw new ProxyRefusal('the host is no host name');
  if (proxy.kind === 'socks5') await socks5(socket, proxy, host, target.port, signal);
  else await httpConnect(socket, proxy, host, target.port, signal);
}

const SOCKS = 5;
const NO_AUTHENTICATION = 0;
const USER_PASSWORD = 2;

async function socks5(
  socket: Socket,
  { credentials }: ProxyPlace,
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<void> {
  const methods = credentials === undefined ? [NO_AUTHENTICATION] : [NO_AUTHENTICATION, USER_PASSWORD];
  socket.write(Buffer.from([SOCKS, methods.length, ...methods]));
  const [version, method] = await take(socket, 2, signal);
  if (version !== SOCKS) throw new ProxyRefusal('this is no SOCKS5 proxy', 'Check the `proxy` URL and its port.');
  if (method === USER_PASSWORD && credentials !== undefined) {
    const user = Buffer.from(credentials.user);
    const password = Buffer.from(credentials.password);
    socket.write(Buffer.concat([Buffer.from([1, user.length]), user, Buffer.from([password.length]), password]));
    const [, status] = await take(socket, 2, signal);
    if (status !== 0) throw badCredentials();
  } else if (method !== NO_AUTHENTICATION) {
    throw credentials === undefined ? badCredentials() : new ProxyRefusal('the proxy takes no user name and password');
  }

  const service = Buffer.alloc(2);
  service.writeUInt16BE(port);
  socket.write(Buffer.concat([Buffer.from([SOCKS, 1, 0]), socksAddress(host), service]));
  const [, reply = 0xff, , type] = await take(socket, 4, signal);
  if (reply !== 0) throw socksRefusal(reply);
  // the address that the proxy connects from: read away, of no use here
  const length = type === 1 ? 4 : type === 4 ? 16 : ((await take(socket, 1, signal))[0] ?? 0);
  await take(socket, length + 2, signal);
}

function socksAddress(host: string): Buffer {
  if (isIPv4(host)) return Buffer.from([1, ...host.split('.').map(Number)]);
  if (isIPv6(host)) return Buffer.concat([Buffer.from([4]), ipv6Octets(host)]);
  return Buffer.concat([Buffer.from([3, host.length]), Buffer.from(host)]);
}

function ipv6Octets(address: string): Buffer {
  const [bare = ''] = address.split('%'); // a zone is ours alone
  // the URL parser knows all ways to write one, and writes them in one
  const [head = '', tail] = new URL(`http://[${bare}]`).hostname.slice(1, -1).split('::');
  const groups = (text: string | undefined): string[] => (text === undefined || text === '' ? [] : text.split(':'));
  const left = groups(head);
  const right = groups(tail);
  const zeros = Array<string>(8 - left.length - right.length).fill('0');
  return Buffer.from([...left, ...zeros, ...right].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

function badCredentials(): ProxyRefusal {
  return new ProxyRefusal(
    'the proxy wants a user name and password, and the right ones',
    'Check the credentials in the `proxy` URL; special characters are written percent-encoded there.',
  );
}

function socksRefusal(reply: number): ProxyRefusal {
  switch (reply) {
    case 2:
      return new ProxyRefusal('the proxy does not allow it', 'Ask who runs the proxy to allow this host and port.');
    case 3:
    case 4:
      return new ProxyRefusal('the proxy cannot reach the host', 'Check `host`: the proxy looks the name up.');
    case 5:
      return new ProxyRefusal('connection refused beyond the proxy', 'Nothing listens there: check `host` and `port`.');
    case 6:
      return new ProxyRefusal('no answer beyond the proxy', 'Check `host` and `port`.');
    default:
      return new ProxyRefusal(`the proxy refuses with reply ${String(reply)}`, 'See the log of the proxy.');
  }
}

async function httpConnect(
  socket: Socket,
  { credentials }: ProxyPlace,
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<void> {
  const authority = `${isIPv6(host) ? `[${host}]` : host}:${String(port)}`;
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`];
  if (credentials !== undefined) {
    const pair = Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64');
    lines.push(`Proxy-Authorization: Basic ${pair}`);
  }
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);

  const head = await takeHead(socket, signal);
  const [, status, reason = ''] = /^HTTP\/1\.[01] (\d{3})(?: ([^\r\n]*))?\r?\n/.exec(head) ?? [];
  if (status === undefined) throw new ProxyRefusal('this is no HTTP proxy', 'Check the `proxy` URL and its port.');
  if (status.startsWith('2')) return;
  if (status === '407') throw badCredentials();
  const remedy =
    status === '403' || status === '405'
      ? 'Ask who runs the proxy to allow this host and port.'
      : 'Check `host` and `port`, and see the log of the proxy.';
  throw new ProxyRefusal(`the proxy refuses with status ${status}`, remedy, printable(reason, 100));
}

/** The proxy's answer up to its empty line; what came behind it goes back into the stream. */
async function takeHead(socket: Socket, signal: AbortSignal): Promise<string> {
  let head = Buffer.alloc(0);
  for (;;) {
    head = Buffer.concat([head, await take(socket, undefined, signal)]);
    const end = /\r?\n\r?\n/.exec(head.toString('latin1', 0, LONGEST_HEAD));
    if (end !== null) {
      const length = end.index + end[0].length;
      if (length < head.length) socket.unshift(head.subarray(length));
      return head.toString('latin1', 0, length);
    }
    if (head.length >= LONGEST_HEAD) throw new ProxyRefusal('the answer of the proxy has no end');
  }
}

/** Exactly `length` octets, or whatever there is; the rest stays in the socket. */
function take(socket: Socket, length: number | undefined, signal: AbortSignal): Promise<Buffer> {
  return settled(signal, (resolve, reject) => {
    const look = (): void => {
      const octets = socket.read(length) as Buffer | null;
      if (octets === null) return;
      // at its end a stream gives less than was asked for
      if (length === undefined || octets.length === length) resolve(octets);
      else ended();
    };
    const ended = (): void => {
      reject(
        new ProxyRefusal('the proxy hung up', 'Check the `proxy` URL and its port, and see the log of the proxy.'),
      );
    };
    socket.on('readable', look);
    socket.once('end', ended);
    socket.once('close', ended);
    socket.once('error', reject);
    if (socket.readableEnded || socket.destroyed) ended();
    look();
    return () => {
      socket.removeListener('readable', look);
      socket.removeListener('end', ended);
      socket.removeListener('close', ended);
      socket.removeListener('error', reject);
    };
  });
}
