/**
 * A TCP proxy that shows a test everything that passes, before it passes: the place to act at an exact step of a protocol.
 * What a watcher answers decides whether the piece goes on.
 */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { Owner } from './temp.ts';

export interface Piece {
  readonly direction: 'toServer' | 'toClient';
  /** As it came from the socket, in Latin-1. */
  readonly text: string;
  /** Counts connections from 1. */
  readonly connection: number;
}

/** `pass` it on; `cut`: end the connection instead, both ways at once; `answer`: the client gets this, the server nothing. */
export type Verdict = 'pass' | 'cut' | { readonly answer: string };
export type Watcher = (piece: Piece) => Verdict | Promise<Verdict>;

export interface Wiretap extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  readonly connections: number;
  /** Who decides from now on. */
  watch(watcher: Watcher): void;
  stop(): Promise<void>;
}

/** A proxy in front of a port of 127.0.0.1 or a Unix socket, stopped with `owner`. It passes everything until told otherwise. */
export async function startWiretap(target: number | string, owner?: Owner): Promise<Wiretap> {
  const tap = new Tap(target);
  await tap.listen();
  owner?.after(() => tap.stop());
  return tap;
}

class Tap implements Wiretap {
  readonly host = '127.0.0.1';
  connections = 0;
  readonly #target: number | string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #watcher: Watcher = () => 'pass';

  constructor(target: number | string) {
    this.#target = target;
    this.#server = createServer((client) => this.#join(client));
  }

  async listen(): Promise<void> {
    this.#server.listen(0, this.host);
    await once(this.#server, 'listening');
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  watch(watcher: Watcher): void {
    this.#watcher = watcher;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #join(client: Socket): void {
    this.connections++;
    const number = this.connections;
    const server = typeof this.#target === 'number' ? connect(this.#target, '127.0.0.1') : connect(this.#target);
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', end);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    void this.#pump(client, server, { direction: 'toServer', connection: number }, client);
    void this.#pump(server, client, { direction: 'toClient', connection: number }, client);
  }

  async #pump(from: Socket, to: Socket, about: Omit<Piece, 'text'>, client: Socket): Promise<void> {
    const end = (): void => {
      from.destroy();
      to.destroy();
    };
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        const verdict = await this.#watcher({ ...about, text: chunk.toString('latin1') });
        if (verdict === 'cut') end();
        if (to.destroyed) return;
        if (typeof verdict === 'object') {
          client.write(verdict.answer);
          continue;
        }
        if (!to.write(chunk)) await once(to, 'drain');
      }
      to.end();
    } catch {
      end(); // one of the two is gone, and so is the other
    }
  }
}
