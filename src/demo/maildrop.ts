/** A sandbox POP3 server for the demo: one maildrop in memory, on loopback. It deletes at QUIT and not before (RFC 1939 §6). */

import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

export interface MaildropMessage {
  readonly uniqueId: string;
  readonly octets: Buffer;
}

const CAPABILITIES = ['TOP', 'UIDL', 'USER', 'PIPELINING', 'RESP-CODES', 'IMPLEMENTATION mailferry-demo'];

export class Maildrop {
  readonly #server: Server;
  #messages: readonly MaildropMessage[];

  private constructor(messages: readonly MaildropMessage[]) {
    this.#messages = messages;
    this.#server = createServer((socket) => serve(socket, this));
  }

  /** Listens on a free port. */
  static async open(messages: readonly MaildropMessage[]): Promise<Maildrop> {
    const maildrop = new Maildrop(messages);
    await new Promise<void>((resolve) => maildrop.#server.listen(0, '127.0.0.1', resolve));
    return maildrop;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get messages(): readonly MaildropMessage[] {
    return this.#messages;
  }

  remove(deleted: ReadonlySet<MaildropMessage>): void {
    this.#messages = this.#messages.filter((message) => !deleted.has(message));
  }

  async close(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function serve(socket: Socket, maildrop: Maildrop): void {
  const session = new Session(socket, maildrop);
  let rest = '';
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    const lines = (rest + chunk.toString('latin1')).split('\r\n');
    rest = lines.pop() ?? '';
    for (const line of lines) session.answer(line);
  });
  session.say('+OK mailferry demo maildrop');
}

class Session {
  readonly #socket: Socket;
  readonly #maildrop: Maildrop;
  readonly #deleted = new Set<MaildropMessage>();
  #messages: readonly MaildropMessage[] | undefined;

  constructor(socket: Socket, maildrop: Maildrop) {
    this.#socket = socket;
    this.#maildrop = maildrop;
  }

  say(line: string): void {
    this.#socket.write(`${line}\r\n`, 'latin1');
  }

  answer(line: string): void {
    const [verb = '', ...args] = line.split(' ');
    const command = verb.toUpperCase();
    if (command === 'CAPA') this.#list('+OK', CAPABILITIES);
    else if (command === 'QUIT') this.#quit();
    else if (command === 'USER') this.say('+OK');
    else if (command === 'PASS') this.#open();
    else if (this.#messages === undefined) this.say('-ERR log in first');
    else this.#transaction(command, args, this.#messages);
  }

  #open(): void {
    this.#messages = this.#maildrop.messages;
    this.say(`+OK ${this.#messages.length} messages`);
  }

  #transaction(command: string, [first, second]: readonly string[], messages: readonly MaildropMessage[]): void {
    const here = messages.flatMap((message, index) =>
      this.#deleted.has(message) ? [] : [{ message, number: index + 1 }],
    );
    const chosen = here.find(({ number }) => number === Number(first));
    if (command === 'NOOP') this.say('+OK');
    else if (command === 'RSET') {
      this.#deleted.clear();
      this.say('+OK');
    } else if (command === 'STAT') {
      this.say(`+OK ${here.length} ${here.reduce((sum, { message }) => sum + message.octets.length, 0)}`);
    } else if ((command === 'LIST' || command === 'UIDL') && first === undefined) {
      this.#list(
        '+OK',
        here.map(({ message, number }) => `${number} ${described(command, message)}`),
      );
    } else if (chosen === undefined) this.say('-ERR no such message or command');
    else if (command === 'LIST' || command === 'UIDL')
      this.say(`+OK ${chosen.number} ${described(command, chosen.message)}`);
    else if (command === 'RETR') this.#message(chosen.message.octets);
    else if (command === 'TOP') this.#message(top(chosen.message.octets, Number(second)));
    else if (command === 'DELE') {
      this.#deleted.add(chosen.message);
      this.say('+OK marked');
    } else this.say('-ERR no such command');
  }

  #quit(): void {
    this.#maildrop.remove(this.#deleted);
    this.#socket.end(`+OK ${this.#deleted.size} deleted\r\n`);
  }

  #list(status: string, lines: readonly string[]): void {
    this.say([status, ...lines, '.'].join('\r\n'));
  }

  #message(octets: Buffer): void {
    const text = octets.toString('latin1');
    const stuffed = (text.startsWith('.') ? `.${text}` : text).replaceAll('\r\n.', '\r\n..');
    this.say(`+OK ${octets.length} octets\r\n${stuffed}${stuffed.endsWith('\r\n') ? '' : '\r\n'}.`);
  }
}

function described(command: 'LIST' | 'UIDL', { uniqueId, octets }: MaildropMessage): string {
  return command === 'LIST' ? String(octets.length) : uniqueId;
}

function top(octets: Buffer, lines: number): Buffer {
  const end = octets.indexOf('\r\n\r\n') + 4;
  const body = octets.subarray(end).toString('latin1').split('\r\n').slice(0, lines);
  return Buffer.concat([octets.subarray(0, end), Buffer.from(body.map((line) => `${line}\r\n`).join(''), 'latin1')]);
}
