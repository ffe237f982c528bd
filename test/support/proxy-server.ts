/** Small SOCKS5 (RFC 1928, 1929) and HTTP CONNECT proxies for tests. They tunnel for real, and note what was asked. */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { Owner } from './temp.ts';

export interface ProxyOptions {
  readonly credentials?: { readonly user: string; readonly password: string };
  /** Refuse every request: a reply of SOCKS5, or a status of HTTP (which may have words behind it). */
  readonly refuse?: number | string;
  /** Say nothing at all. */
  readonly silent?: boolean;
  /** Answer with this at once, whatever is asked, and hang up. */
  readonly garbage?: string;
  /** The handshake's answers one octet at a time. */
  readonly drip?: boolean;
  /** Where tunnels really go, whatever was asked for: so that names can be tested that nobody knows. */
  readonly target?: { readonly host: string; readonly port: number };
}

export interface ProxyServer extends AsyncDisposable {
  readonly port: number;
  /** Without credentials: `socks5://127.0.0.1:PORT`. */
  readonly url: string;
  /** `host:port` of each request; SOCKS5 puts its address type in front: `3 pop.example:995`. */
  readonly requests: readonly string[];
  /** What clients showed: `user:password`. */
  readonly credentials: readonly string[];
  /** Sockets that are open now, to clients and beyond. */
  readonly open: number;
  stop(): Promise<void>;
}

type Handshake = (reader: Reader, socket: Socket, notes: Notes) => Promise<{ host: string; port: number } | undefined>;

interface Notes {
  readonly requests: string[];
  readonly credentials: string[];
  readonly answer: (octets: Uint8Array | string) => Promise<void>;
}

export function startSocks5Proxy(options: ProxyOptions = {}, owner?: Owner): Promise<ProxyServer> {
  return start('socks5', options, (reader, socket, notes) => socks5(options, reader, socket, notes), owner);
}

export function startConnectProxy(options: ProxyOptions = {}, owner?: Owner): Promise<ProxyServer> {
  return start('http', options, (reader, _socket, notes) => httpConnect(options, reader, notes), owner);
}

async function start(
  scheme: string,
  options: ProxyOptions,
  handshake: Handshake,
  owner: Owner | undefined,
): Promise<ProxyServer> {
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
  };
  const requests: string[] = [];
  const credentials: string[] = [];
  const server = createServer((socket) => {
    keep(socket);
    socket.setNoDelay(true);
    const answer = async (octets: Uint8Array | string): Promise<void> => {
      const all = Buffer.from(octets as Uint8Array);
      const pieces = options.drip === true ? Array.from(all, (octet) => Buffer.from([octet])) : [all];
      for (const piece of pieces) await new Promise((resolve) => socket.write(piece, resolve));
    };
    void serve(socket, options, () => handshake(new Reader(socket), socket, { requests, credentials, answer }), keep);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const stop = (): Promise<void> => close(server, sockets);
  owner?.after(stop);
  return {
    port,
    url: `${scheme}://127.0.0.1:${String(port)}`,
    requests,
    credentials,
    get open() {
      return sockets.size;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function serve(
  socket: Socket,
  options: ProxyOptions,
  handshake: () => Promise<{ host: string; port: number } | undefined>,
  keep: (socket: Socket) => void,
): Promise<void> {
  if (options.silent === true) return void socket.resume();
  if (options.garbage !== undefined) return void socket.end(options.garbage);
  try {
    const asked = await handshake();
    if (asked === undefined) return void socket.end();
    const upstream = connect(options.target ?? asked);
    keep(upstream);
    socket.pipe(upstream).pipe(socket);
    upstream.once('close', () => socket.destroy());
    socket.once('close', () => upstream.destroy());
  } catch {
    socket.destroy(); // the client left in the middle of the handshake
  }
}

function close(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  return new Promise((resolve) => {
    server.close(() => {
      resolve();
    });
  });
}

/** Exact reads, leaving the rest in the socket. */
class Reader {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  async take(length: number): Promise<Buffer> {
    for (;;) {
      const octets = this.#socket.read(length) as Buffer | null;
      if (octets !== null && octets.length === length) return octets;
      if (this.#socket.readableEnded || this.#socket.destroyed) throw new Error('ended');
      await Promise.race([once(this.#socket, 'readable'), once(this.#socket, 'close')]);
    }
  }

  async head(): Promise<string> {
    let head = '';
    while (!head.endsWith('\r\n\r\n')) head += (await this.take(1)).toString('latin1');
    return head;
  }
}

const SUCCESS = [5, 0, 0, 3, 4, ...Buffer.from('gate'), 0, 80]; // the bound address, as a name for once

async function socks5(
  options: ProxyOptions,
  reader: Reader,
  socket: Socket,
  { requests, credentials, answer }: Notes,
): ReturnType<Handshake> {
  const [, count = 0] = await reader.take(2);
  const methods = await reader.take(count);
  const wanted = options.credentials === undefined ? 0 : 2;
  if (!methods.includes(wanted)) {
    socket.end(Buffer.from([5, 0xff]));
    return undefined;
  }
  await answer(Uint8Array.of(5, wanted));
  if (options.credentials !== undefined) {
    const user = await reader.take((await reader.take(2))[1] ?? 0);
    const password = await reader.take((await reader.take(1))[0] ?? 0);
    credentials.push(`${user.toString()}:${password.toString()}`);
    const isRight = credentials.at(-1) === `${options.credentials.user}:${options.credentials.password}`;
    await answer(Uint8Array.of(1, isRight ? 0 : 1));
    if (!isRight) return undefined;
  }

  const [, , , type] = await reader.take(4);
  const host = await socksHost(reader, type);
  const port = (await reader.take(2)).readUInt16BE();
  requests.push(`${String(type)} ${host}:${String(port)}`);
  if (options.refuse !== undefined) {
    await answer(Uint8Array.of(5, Number(options.refuse), 0, 1, 0, 0, 0, 0, 0, 0));
    return undefined;
  }
  await answer(Uint8Array.from(SUCCESS));
  return { host, port };
}

async function socksHost(reader: Reader, type: number | undefined): Promise<string> {
  if (type === 1) return (await reader.take(4)).join('.');
  if (type === 3) return (await reader.take((await reader.take(1))[0] ?? 0)).toString();
  const groups = (await reader.take(16)).toString('hex').match(/.{4}/g) ?? [];
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

async function httpConnect(
  options: ProxyOptions,
  reader: Reader,
  { requests, credentials, answer }: Notes,
): ReturnType<Handshake> {
  const head = await reader.head();
  const [, host = '', port = ''] = /^CONNECT \[?([^\] ]+?)\]?:(\d+) HTTP\/1\.1\r\n/.exec(head) ?? [];
  requests.push(`${host}:${port}`);
  const [, basic] = /^Proxy-Authorization: Basic (.*)\r$/im.exec(head) ?? [];
  if (basic !== undefined) credentials.push(Buffer.from(basic, 'base64').toString());
  const { credentials: wanted } = options;
  if (wanted !== undefined && credentials.at(-1) !== `${wanted.user}:${wanted.password}`) {
    await answer('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n');
    return undefined;
  }
  if (options.refuse !== undefined) {
    await answer(`HTTP/1.1 ${String(options.refuse)}\r\nContent-Length: 2\r\n\r\nno`);
    return undefined;
  }
  await answer('HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n');
  return { host, port: Number(port) };
}
