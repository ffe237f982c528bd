/** A raw connection: octets out, octets in, nothing understood. */

import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { until } from '../support/wait.ts';

export class Dialogue implements AsyncDisposable {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #ended = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => (this.#received = Buffer.concat([this.#received, chunk])));
    socket.on('error', () => (this.#ended = true));
    socket.on('close', () => (this.#ended = true));
  }

  static async open(port: number): Promise<Dialogue> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new Dialogue(socket);
  }

  /** Sends octets, and waits until what has come since the last call ends like that. @returns what came */
  async ask(octets: string | Buffer, end: string): Promise<string> {
    if (octets.length > 0) this.#socket.write(octets);
    return await this.heard(end);
  }

  async heard(end: string): Promise<string> {
    await until(() => this.#received.toString('latin1').endsWith(end), { what: `an answer that ends with ${end}` });
    const text = this.#received.toString('latin1');
    this.#received = Buffer.alloc(0);
    return text;
  }

  /** One line out, one line back; without its end. */
  async line(text: string): Promise<string> {
    return (await this.ask(`${text}\r\n`, '\r\n')).slice(0, -2);
  }

  /** Ends the connection without a word. */
  async drop(): Promise<void> {
    this.#socket.destroy();
    await this.ended();
  }

  /** Waits until the other side has hung up. */
  async ended(): Promise<void> {
    await until(() => this.#ended, { what: 'the end of the connection' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drop();
  }
}
