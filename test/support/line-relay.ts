/**
 * A relay in front of an SMTP or LMTP server of a test, for what the server itself cannot be made to do: one command answered by
 * the relay in its place, or nobody listening. The server must not offer PIPELINING.
 */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { Owner } from './temp.ts';

export class LineRelay {
  readonly port: number;
  /** What answers in place of the server; with 421 the connection ends behind it. */
  rule: { readonly on: RegExp; readonly reply: string } | undefined;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #server: Server;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.#target = target;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket) => this.#relay(socket));
  }

  static async start(target: number, owner: Owner): Promise<LineRelay> {
    const relay = new LineRelay(await listening(0), target);
    owner.after(() => relay.refuse());
    return relay;
  }

  /** Nothing listens any more, and what was open is cut. */
  async refuse(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Listens again. */
  async accept(): Promise<void> {
    this.#server = await listening(this.port);
    this.#server.on('connection', (socket) => this.#relay(socket));
  }

  #relay(client: Socket): void {
    const server = connect(this.#target, '127.0.0.1');
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      // ends that hang up in the middle are what it is for
      socket.on('error', () => undefined);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    server.pipe(client);
    client.on('data', (chunk) => {
      const { rule } = this;
      if (rule?.on.test(chunk.toString('latin1')) !== true) server.write(chunk);
      else if (rule.reply.startsWith('421')) client.end(`${rule.reply}\r\n`);
      else client.write(`${rule.reply}\r\n`);
    });
  }
}

async function listening(port: number): Promise<Server> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
