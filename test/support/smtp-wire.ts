/**
 * An SMTP or LMTP server that shows what was really written to it: every octet behind DATA, dots and line ends as they
 * came, and that answers each command with whatever the test says. For what `smtp-sink.ts` is too well-behaved for.
 */

import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export interface SmtpWireOptions {
  /** Default `220 wire`. Undefined answers are the usual ones. */
  readonly greeting?: string;
  /** Lines of the EHLO reply, without codes. */
  readonly extensions?: readonly string[];
  /**
   * The answer to a command line, or to a whole message (`.`): text without its last line end, `drop`, or undefined for the
   * usual one. An empty text answers nothing.
   */
  readonly answer?: (command: string, socket: Socket) => string | undefined;
}

export interface SmtpWire extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** All command lines of all connections. */
  readonly commands: readonly string[];
  /** What stood between the reply to DATA and the end `CRLF.CRLF`, that included, octet for octet. */
  readonly messages: readonly Buffer[];
  readonly connections: number;
  /** Connections now. */
  readonly open: number;
}

const END = Buffer.from('\r\n.\r\n');

/** Starts it on a free port. */
export async function startSmtpWire(options: SmtpWireOptions = {}): Promise<SmtpWire> {
  const commands: string[] = [];
  const messages: Buffer[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;

  function serve(socket: Socket): void {
    connections++;
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {
      // clients hang up here
    });
    let pending = Buffer.alloc(0);
    let inMessage = false;
    const say = (text: string): void => {
      if (text === 'drop') socket.destroy();
      else if (text !== '') socket.write(`${text}\r\n`);
    };
    say(options.greeting ?? '220 wire');
    socket.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        if (inMessage) {
          // the CRLF before the dot may be that of the DATA line
          const at = pending.subarray(0, 3).equals(END.subarray(2)) ? -2 : pending.indexOf(END);
          if (at === -1) return;
          messages.push(pending.subarray(0, at + 5));
          pending = pending.subarray(at + 5);
          inMessage = false;
          say(options.answer?.('.', socket) ?? '250 2.0.0 taken');
          continue;
        }
        const at = pending.indexOf('\n');
        if (at < 0) return;
        const command = pending.subarray(0, at).toString('latin1').replace(/\r$/, '');
        pending = pending.subarray(at + 1);
        commands.push(command);
        const answer = options.answer?.(command, socket) ?? usual(command, options.extensions ?? []);
        inMessage = /^DATA$/i.test(command) && /(^|\n)354/.test(answer);
        say(answer);
      }
    });
  }

  const server = createServer(serve);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    commands,
    messages,
    get connections() {
      return connections;
    },
    get open() {
      return sockets.size;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function usual(command: string, extensions: readonly string[]): string {
  if (/^(EHLO|LHLO)/i.test(command)) {
    const lines = ['wire', ...extensions];
    return lines.map((line, index) => `250${index === lines.length - 1 ? ' ' : '-'}${line}`).join('\r\n');
  }
  if (/^DATA$/i.test(command)) return '354 go on';
  return /^QUIT$/i.test(command) ? '221 bye' : '250 2.0.0 ok';
}
