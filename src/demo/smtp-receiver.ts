/**
 * A sandbox SMTP server on loopback (RFC 5321, with PIPELINING, 8BITMIME and SIZE): it notes what it took, octet for octet,
 * and may put a message off or refuse it at the end of DATA.
 */

import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { arrivalOf } from './arrival.ts';
import type { Arrival } from './arrival.ts';
import { SmtpData } from './smtp-data.ts';

/** Octets of a message that it takes. */
const SIZE_LIMIT = 32 * 1024 * 1024;
/** RFC 5321 §4.5.3.1.4: a command line, its line end included; with room for parameters. Octets. */
const LINE_LIMIT = 1024;
/** RFC 5321 §4.5.3.2.7. Milliseconds. */
const IDLE_LIMIT = 5 * 60_000;

/** The reply in place of 250 to a message whose Message-ID that is; undefined: it is taken. */
export type Screening = (messageId: string) => string | undefined;

export class SmtpReceiver {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #arrivals: Arrival[] = [];
  readonly #screen: Screening;

  private constructor(screen: Screening) {
    this.#screen = screen;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /** Listens on a free port. */
  static async open(screen: Screening): Promise<SmtpReceiver> {
    const receiver = new SmtpReceiver(screen);
    receiver.#server.listen(0, '127.0.0.1');
    await once(receiver.#server, 'listening');
    return receiver;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Every message that was answered 250, as it is below the trace field on top. */
  get arrivals(): readonly Arrival[] {
    return this.#arrivals;
  }

  async close(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#server, 'close');
  }

  #take(octets: Buffer): string {
    if (octets.length > SIZE_LIMIT) return '552 5.3.4 message too large';
    const arrival = arrivalOf(belowTrace(octets));
    const refusal = this.#screen(arrival.messageId);
    if (refusal !== undefined) return refusal;
    this.#arrivals.push(arrival);
    return `250 2.0.0 queued as SANDBOX${String(this.#arrivals.length)}`;
  }

  #serve(socket: Socket): void {
    const dialogue = new Dialogue();
    let data: SmtpData | undefined;
    let pending: Buffer = Buffer.alloc(0);
    const say = (reply: string): void => void socket.write(`${reply}\r\n`);
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.setTimeout(IDLE_LIMIT, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('data', (chunk) => {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      while (pending.length > 0 && !socket.writableEnded) {
        if (data) {
          const rest = data.take(pending);
          if (rest === undefined) {
            pending = Buffer.alloc(0);
            return;
          }
          pending = rest;
          say(this.#take(data.octets()));
          data = undefined;
          continue;
        }
        const at = pending.indexOf('\r\n');
        if (at === -1 && pending.length < LINE_LIMIT) return;
        if (at === -1 || at > LINE_LIMIT) {
          socket.end('500 5.5.6 line too long\r\n');
          return;
        }
        const reply = dialogue.reply(pending.toString('latin1', 0, at));
        pending = pending.subarray(at + 2);
        if (reply.startsWith('221')) socket.end(`${reply}\r\n`);
        else say(reply);
        // What is too large is read to its end all the same, so that the replies stay in step, but not kept.
        if (reply.startsWith('354')) data = new SmtpData(SIZE_LIMIT);
      }
    });
    say('220 inbox.sandbox.example ESMTP');
  }
}

/** The order of commands (RFC 5321 §4.1.4). */
class Dialogue {
  #state: 'connected' | 'ready' | 'mail' | 'rcpt' = 'connected';

  reply(line: string): string {
    const [verb = ''] = line.toUpperCase().split(/[ :]/, 1);
    switch (verb) {
      case 'EHLO':
      case 'HELO':
        this.#state = 'ready';
        return verb === 'HELO'
          ? '250 inbox.sandbox.example'
          : `250-inbox.sandbox.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE ${String(SIZE_LIMIT)}`;
      case 'MAIL':
        return this.#mail(line);
      case 'RCPT':
        return this.#recipient(line);
      case 'DATA':
        if (this.#state !== 'rcpt') return '503 5.5.1 RCPT comes first';
        this.#state = 'ready';
        return '354 end with a dot on a line of its own';
      case 'RSET':
        if (this.#state !== 'connected') this.#state = 'ready';
        return '250 2.0.0 forgotten';
      case 'NOOP':
        return '250 2.0.0 still here';
      case 'QUIT':
        return '221 2.0.0 bye';
      default:
        return '502 5.5.1 no such command';
    }
  }

  #mail(line: string): string {
    if (this.#state !== 'ready') return '503 5.5.1 not now';
    const parameters = /^MAIL FROM:<[^<>\s]*>(?<parameters>(?: \S+)*)$/i.exec(line)?.groups?.['parameters'];
    if (parameters === undefined) return '501 5.5.4 MAIL FROM:<reverse-path>';
    for (const parameter of parameters.split(' ').filter(Boolean)) {
      const [, name, value] = /^(SIZE|BODY)=(\w{1,20})$/i.exec(parameter) ?? [];
      if (name === undefined) return '555 5.5.4 no such parameter';
      if (name.toUpperCase() === 'SIZE' && Number(value) > SIZE_LIMIT) return '552 5.3.4 message too large';
    }
    this.#state = 'mail';
    return '250 2.1.0 sender fine';
  }

  #recipient(line: string): string {
    if (this.#state !== 'mail' && this.#state !== 'rcpt') return '503 5.5.1 MAIL comes first';
    if (!/^RCPT TO:<[^<>\s]+>$/i.test(line)) return '501 5.5.4 RCPT TO:<recipient>';
    this.#state = 'rcpt';
    return '250 2.1.5 recipient fine';
  }
}

/** What is below the one `Received:` field that a forwarder puts on top (RFC 5321 §4.4). */
function belowTrace(octets: Buffer): Buffer {
  if (!octets.toString('latin1', 0, 20).startsWith('Received: by ')) return octets;
  let end = octets.indexOf('\r\n');
  while (octets[end + 2] === 0x20 || octets[end + 2] === 0x09) end = octets.indexOf('\r\n', end + 2);
  return octets.subarray(end + 2);
}
