/** Transcripts of POP3 sessions (`test/transcripts/README.md`): read, and played by a server that says nothing else. */

import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { Owner } from './temp.ts';

export type Step =
  | { readonly kind: 'says'; readonly octets: Buffer }
  | { readonly kind: 'closes' }
  | { readonly kind: 'expects'; readonly line: string };

export interface Transcript {
  readonly steps: readonly Step[];
  readonly settings: ReadonlyMap<string, string>;
  /** The `=` lines. */
  readonly results: readonly string[];
}

export function parseTranscript(text: string): Transcript {
  const steps: Step[] = [];
  const settings = new Map<string, string>();
  const results: string[] = [];
  for (const line of text.split('\n')) {
    const mark = line.slice(0, 2);
    const rest = line.slice(3);
    if (mark === 'S:') steps.push({ kind: 'says', octets: unescaped(`${rest}\\r\\n`) });
    else if (mark === 'S~') steps.push({ kind: 'says', octets: unescaped(rest) });
    else if (mark === 'S!') steps.push({ kind: 'closes' });
    else if (mark === 'C:') steps.push({ kind: 'expects', line: rest });
    else if (mark === '= ') results.push(line.slice(2));
    else if (mark === '% ') {
      const [name = '', ...value] = line.slice(2).split(' ');
      settings.set(name, value.join(' '));
    } else if (line !== '' && !line.startsWith('#')) throw new Error(`no line of a transcript: ${line}`);
  }
  return { steps, settings, results };
}

export function escaped(octets: string): string {
  return (
    octets
      .replaceAll('\\', '\\\\')
      .replaceAll('\r', '\\r')
      .replaceAll('\n', '\\n')
      // oxlint-disable-next-line no-control-regex -- those are what is escaped
      .replaceAll(/[\x00-\x1f\x7f-\xff]/g, (octet) => `\\x${octet.charCodeAt(0).toString(16).padStart(2, '0')}`)
  );
}

function unescaped(text: string): Buffer {
  const octets = text.replaceAll(/\\(x[0-9a-f]{2}|[rn\\])/g, (_, escape: string) => {
    if (escape === 'r') return '\r';
    if (escape === 'n') return '\n';
    return escape === '\\' ? '\\' : String.fromCharCode(Number.parseInt(escape.slice(1), 16));
  });
  return Buffer.from(octets, 'latin1');
}

export interface Player {
  readonly port: number;
  /** What the client sent that the transcript has otherwise. */
  readonly deviations: readonly string[];
  /** The `C:` lines that have been heard. */
  readonly heard: number;
}

/** Plays it to one client. @param chunk octets a write; 0: as much as there is */
export async function play({ steps }: Transcript, chunk: number, owner: Owner): Promise<Player> {
  const deviations: string[] = [];
  const state = { heard: 0 };
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    void perform(socket, steps, chunk, deviations, state);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  owner.after(async () => {
    const closed = once(server, 'close');
    server.close();
    await closed;
  });
  return {
    port: (server.address() as AddressInfo).port,
    deviations,
    get heard() {
      return state.heard;
    },
  };
}

async function perform(
  socket: Socket,
  steps: readonly Step[],
  chunk: number,
  deviations: string[],
  state: { heard: number },
): Promise<void> {
  const lines = linesOf(socket);
  for (const step of steps) {
    if (step.kind === 'closes') socket.end();
    else if (step.kind === 'says') await say(socket, step.octets, chunk);
    else {
      const { value, done } = await lines.next();
      if (done === true) break;
      if (value !== step.line) deviations.push(`${value}, not ${step.line}`);
      state.heard += 1;
    }
  }
  for await (const line of lines) deviations.push(`${line} behind the end`);
  socket.end();
}

async function say(socket: Socket, octets: Buffer, chunk: number): Promise<void> {
  const size = chunk > 0 ? chunk : octets.length;
  for (let at = 0; at < octets.length && socket.writable; at += size) {
    socket.write(octets.subarray(at, at + size));
    if (chunk > 0) await turn();
  }
}

async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let rest = '';
  try {
    for await (const piece of socket.iterator({ destroyOnReturn: false })) {
      rest += (piece as Buffer).toString('latin1');
      const lines = rest.split('\r\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
  } catch (error) {
    // the client dropped the connection, as it may
    if (!socket.destroyed) throw error;
  }
}
