// Servers that never stop talking: a greeting, a reply or a list without end. The process keeps its memory, ends the poll, and says why.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { Mailferry } from '../support/mailferry.ts';

/** Kilobytes; a worker at rest has some 100,000. */
const LIMIT = 400_000;
const ESCAPE = '\u001b[2J\u001b]0;owned\u0007';

/** Speaks as long as it is listened to. */
function flood(socket: Socket, piece: (count: number) => string): void {
  let count = 0;
  const more = (): void => {
    while (!socket.destroyed && socket.write(piece((count += 1)), 'latin1'));
  };
  socket.on('drain', more);
  more();
}

/** @param on the command at which it begins to speak without end; empty for the greeting */
async function serve(t: TestContext, on: string, piece: (count: number) => string): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    t.after(() => socket.destroy());
    if (on === '') return flood(socket, piece);
    socket.write('+OK ready\r\n');
    socket.on('data', (data) => {
      for (const line of data.toString('latin1').split('\r\n').filter(Boolean)) {
        if (line.startsWith(on)) flood(socket, piece);
        else if (/^(CAPA|AUTH)/.test(line)) socket.write('-ERR what\r\n');
        else socket.write(line === 'STAT' ? '+OK 1000000000 5000000000\r\n' : `+OK\r\n`);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

const LINES = (count: number): string =>
  (count === 1 ? '+OK\r\n' : '') +
  Array.from({ length: 1000 }, (_, at) => `${String(count * 1000 + at)} u${String(count * 1000 + at)}\r\n`).join('');

suite('a server that never stops', { concurrency: 1 }, () => {
  for (const [what, on, piece] of [
    ['a greeting without a line end', '', () => 'x'.repeat(60_000)],
    ['a reply without a line end', 'USER', () => ESCAPE.repeat(3000)],
    ['a refusal full of escapes', 'PASS', () => `-ERR ${ESCAPE.repeat(50)}\r\n`],
    ['a list of a billion messages', 'UIDL', LINES],
  ] as const) {
    test(what, { timeout: 60_000 }, async (t) => {
      const port = await serve(t, on, piece);
      const mailferry = await Mailferry.create(t, {
        destinations: { inbox: { type: 'webhook', url: 'http://127.0.0.1:9/', allowPrivate: true } },
        accounts: {
          isp: {
            host: '127.0.0.1',
            port,
            security: 'none',
            user: 'jane',
            password: 'open sesame',
            deliverTo: ['inbox'],
          },
        },
      });
      const child = mailferry.spawn(['sync']);
      let said = '';
      for (const stream of [child.stdout, child.stderr])
        stream?.setEncoding('utf8').on('data', (text: string) => (said += text));
      let peak = 0;
      const look = setInterval(() => {
        readFile(`/proc/${String(child.pid)}/status`, 'utf8').then(
          (status) => (peak = Math.max(peak, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0))),
          () => undefined,
        );
      }, 50);
      t.after(() => clearInterval(look));
      const [code] = (await once(child, 'close')) as [number];
      assert.notEqual(code, 0, said);
      t.diagnostic(`peak ${String(peak)} kB`);
      assert(peak > 0 && peak < LIMIT, `peak ${String(peak)} kB`);
      assert(said.length < 20_000, `${String(said.length)} characters`);
      for (const words of [['status'], ['messages', 'list', 'isp', '--all'], ['log']])
        said += (await mailferry.run(...words)).stdout;
      // oxlint-disable-next-line no-control-regex
      assert.doesNotMatch(said, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/, 'nothing that moves a cursor');
    });
  }
});
