/**
 * A sandbox maildrop: its messages lie in memory, a POP3 server on loopback shows them. One session at a time, and nothing
 * goes away but at the QUIT of a session that asked for it (RFC 1939 §6).
 */

import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { MaildropSession } from './maildrop-session.ts';
import type { MaildropMessage } from './maildrop-session.ts';

/** RFC 1939 §3 allows a server to hang up after ten idle minutes, and no sooner. Milliseconds. */
const IDLE_LIMIT = 10 * 60_000;
/** RFC 2449 §4: a command line, its line end included. Octets. */
const LINE_LIMIT = 255;

export interface MaildropOptions {
  readonly user: string;
  readonly password: string;
  /** Told when RETR is answered, and when QUIT has deleted. */
  readonly onRetrieved?: (message: MaildropMessage) => void;
  readonly onDeleted?: (messages: readonly MaildropMessage[]) => void;
}

export class Maildrop {
  readonly #options: MaildropOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #messages: readonly MaildropMessage[];
  #locked = false;

  private constructor(messages: readonly MaildropMessage[], options: MaildropOptions) {
    this.#messages = messages;
    this.#options = options;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /** Listens on a free port. */
  static async open(messages: readonly MaildropMessage[], options: MaildropOptions): Promise<Maildrop> {
    const maildrop = new Maildrop(messages, options);
    maildrop.#server.listen(0, '127.0.0.1');
    await once(maildrop.#server, 'listening');
    return maildrop;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What lies there now. */
  get messages(): readonly MaildropMessage[] {
    return this.#messages;
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }

  /** The exclusive-access lock (RFC 1939 §4). @returns undefined while another session has it */
  #lock(): { readonly messages: readonly MaildropMessage[]; release(): void } | undefined {
    if (this.#locked) return undefined;
    this.#locked = true;
    return { messages: this.#messages, release: () => (this.#locked = false) };
  }

  #delete(deleted: readonly MaildropMessage[]): void {
    this.#messages = this.#messages.filter((message) => !deleted.includes(message));
    if (deleted.length > 0) this.#options.onDeleted?.(deleted);
  }

  #serve(socket: Socket): void {
    const { user, password, onRetrieved } = this.#options;
    const session = new MaildropSession({
      isOwner: (name, word) => name === user && word === password,
      lock: () => this.#lock(),
      retrieved: (message) => onRetrieved?.(message),
      update: (deleted) => this.#delete(deleted),
    });
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.setTimeout(IDLE_LIMIT, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#sockets.delete(socket);
      session.end();
    });
    let pending = Buffer.alloc(0);
    // Pipelined commands wait in the socket while their answers do (RFC 2449 §6.6).
    const work = (): void => {
      while (!socket.writableNeedDrain && !session.ended) {
        const at = pending.indexOf('\r\n');
        if (at === -1 ? pending.length >= LINE_LIMIT : at + 2 > LINE_LIMIT) {
          session.end();
          socket.end('-ERR line too long\r\n');
          return;
        }
        if (at === -1) break;
        const line = pending.toString('latin1', 0, at);
        pending = pending.subarray(at + 2);
        socket.write(session.answer(line));
      }
      if (session.ended) socket.end();
      else if (socket.writableNeedDrain) socket.pause();
      else socket.resume();
    };
    socket.on('drain', work);
    socket.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      work();
    });
    socket.write('+OK sandbox maildrop ready\r\n');
  }
}
