/** An engine at one end of a wire in this process, and the test as the server at the other: every octet and turn is in its hand. */

import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { Engine } from '../../src/pop3/engine.ts';
import type { Accepted } from '../../src/pop3/engine.ts';
import { NO_BODY } from '../../src/pop3/command.ts';
import type { MessageSink } from '../../src/pop3/command.ts';

export interface Wire extends Disposable {
  readonly engine: Engine;
  /** The server's end. */
  readonly remote: Duplex;
  /** What the engine has written, a string a write. */
  readonly writes: string[];
  /** Every transcript line, `C` or `S` in front. */
  readonly lines: string[];
  /** Lets the engine read these octets, `chunk` at a time. */
  say(text: string | Buffer, chunk?: number): void;
  /** Sends a command that is answered by one line. */
  ask(line: string): Promise<Accepted>;
  /** Sends a command that is answered by a message; its octets. */
  fetch(line: string): Promise<string>;
  /** The same into a sink. */
  fetchInto(line: string, sink: MessageSink): Promise<Accepted>;
}

export interface WireOptions {
  readonly timeout?: number;
  /** Default true. */
  readonly pipelining?: boolean;
}

/** A wire with a session that has logged in. */
export function wire({ timeout = 10_000, pipelining = true }: WireOptions = {}): Wire {
  const [near, remote] = duplexPair();
  const lines: string[] = [];
  const writes: string[] = [];
  const engine = new Engine(near as unknown as Socket, {
    server: 'pop.example:110',
    timeout,
    log: ({ direction, line }) => lines.push(`${direction}: ${line}`),
  });
  engine.pipelining = pipelining;
  remote.on('data', (chunk: Buffer) => writes.push(chunk.toString()));
  remote.on('error', () => undefined);
  const fetchInto = (line: string, sink: MessageSink): Promise<Accepted> =>
    engine.send({ line, shown: line, body: { kind: 'message', sink } });
  return {
    engine,
    remote,
    writes,
    lines,
    say(text, chunk) {
      const octets = Buffer.from(text as string, 'latin1');
      const size = chunk ?? Math.max(1, octets.length);
      for (let at = 0; at < octets.length; at += size) near.push(octets.subarray(at, at + size));
    },
    ask: (line) => engine.send({ line, shown: line, body: NO_BODY }),
    async fetch(line) {
      const pieces: Buffer[] = [];
      await fetchInto(line, { write: (piece) => void pieces.push(piece) });
      return Buffer.concat(pieces).toString('latin1');
    },
    fetchInto,
    [Symbol.dispose]() {
      near.destroy();
      remote.destroy();
    },
  };
}
