import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import test, { after, before, suite } from 'node:test';
import { startFaultProxy } from './fault-proxy.ts';
import type { Fault, FaultProxy } from './fault-proxy.ts';
import { assertNoLeaks } from './leaks.ts';
import { until } from './wait.ts';

assertNoLeaks();

/** What one side of a connection has seen. */
class End {
  readonly socket: Socket;
  text = '';
  over: 'no' | 'end' | 'reset' = 'no';

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (data: string) => (this.text += data));
    socket.on('end', () => (this.over = 'end'));
    socket.on('error', () => (this.over = 'reset'));
  }
}

suite('fault proxy', () => {
  const accepted: End[] = [];
  const server = createServer((socket) => accepted.push(new End(socket)));
  let proxy: FaultProxy;

  before(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    proxy = await startFaultProxy((server.address() as AddressInfo).port);
  });
  after(async () => {
    await proxy.stop();
    server.close();
  });

  /** Both ends of a new connection through the proxy; gone after the test. */
  async function open(fault: Fault, context: { after(work: () => void): void }): Promise<{ client: End; far: End }> {
    await proxy.set(fault);
    const known = accepted.length;
    const client = new End(connect(proxy.port, proxy.host));
    const far = await until(() => accepted[known]);
    context.after(() => {
      client.socket.destroy();
      far.socket.destroy();
      proxy.resetAll();
    });
    return { client, far };
  }

  const seen = (end: End, text: string): Promise<unknown> =>
    until(() => end.text === text, { what: `${text} instead of ${end.text}` });

  test('passes everything, counts it, and passes the end of each direction', async (context) => {
    const was = { ...proxy.octets };
    const { client, far } = await open({ kind: 'none' }, context);
    client.socket.write('hello');
    await seen(far, 'hello');
    far.socket.end('x'.repeat(200_000));
    await until(() => client.over === 'end');
    assert.equal(client.text.length, 200_000);
    assert.deepEqual(
      { toServer: proxy.octets.toServer - was.toServer, toClient: proxy.octets.toClient - was.toClient },
      { toServer: 5, toClient: 200_000 },
    );
    await until(() => proxy.open === 0);
  });

  test('cut: so many octets, then an orderly end for both', async (context) => {
    const { client, far } = await open({ kind: 'cut', after: 4, direction: 'toClient' }, context);
    client.socket.write('any number of octets');
    await seen(far, 'any number of octets');
    far.socket.write('abcdefgh');
    await until(() => client.over === 'end' && far.over === 'end');
    assert.equal(client.text, 'abcd');
  });

  test('cut towards the server', async (context) => {
    const { client, far } = await open({ kind: 'cut', after: 3, direction: 'toServer' }, context);
    client.socket.write('ab');
    client.socket.write('cdef');
    await until(() => client.over === 'end' && far.over === 'end');
    assert.equal(far.text, 'abc');
  });

  test('reset: so many octets, then a reset for both', async (context) => {
    const { client, far } = await open({ kind: 'reset', after: 1, direction: 'toServer' }, context);
    client.socket.write('ab');
    await until(() => client.over === 'reset' && far.over !== 'no');
    assert(far.text.length <= 1);
  });

  test('stall: nothing passes, until it is lifted', async (context) => {
    const { client, far } = await open({ kind: 'stall', after: 2, direction: 'toClient' }, context);
    far.socket.write('abcd');
    await seen(client, 'ab');
    client.socket.write('not now');
    far.socket.end();
    await until(() => client.socket.bytesWritten === 7);
    assert.deepEqual([client.text, far.text, client.over], ['ab', '', 'no']);
    await proxy.set({ kind: 'none' });
    await seen(client, 'abcd');
    await seen(far, 'not now');
    await until(() => client.over === 'end');
  });

  test('half-open: the server is gone and the client does not know', async (context) => {
    const { client, far } = await open({ kind: 'none' }, context);
    client.socket.write('a');
    await seen(far, 'a');
    await proxy.set({ kind: 'halfOpen', after: 0, direction: 'toClient' });
    await until(() => far.over === 'reset');
    client.socket.write('anybody there?');
    await until(() => client.socket.bytesWritten === 15);
    assert.equal(client.over, 'no');
    await proxy.set({ kind: 'none' });
    client.socket.write('now?');
    await until(() => client.over === 'reset');
  });

  test('swallow: one direction is lost', async (context) => {
    const { client, far } = await open({ kind: 'swallow', after: 2, direction: 'toClient' }, context);
    far.socket.write('abcd');
    client.socket.write('question');
    await seen(far, 'question');
    await seen(client, 'ab');
    await proxy.set({ kind: 'none' });
    far.socket.write('!');
    await seen(client, 'ab!');
  });

  test('drip: one octet at a time, and the rest at once when it is lifted', async (context) => {
    const { client, far } = await open({ kind: 'drip', octets: 1, every: 5, direction: 'toClient' }, context);
    const sizes: number[] = [];
    client.socket.on('data', (data: string) => sizes.push(data.length));
    far.socket.write('abcdefgh');
    await seen(client, 'abcdefgh');
    assert(sizes.length >= 4, `in ${String(sizes.length)} pieces`);
    far.socket.write('x'.repeat(100_000));
    await proxy.set({ kind: 'none' });
    await until(() => client.text.length === 100_008);
  });

  test('delay: later, and in order', async (context) => {
    const { client, far } = await open({ kind: 'delay', milliseconds: 60 }, context);
    const began = performance.now();
    client.socket.write('a');
    client.socket.write('b');
    await seen(far, 'ab');
    assert(performance.now() - began >= 55);
    client.socket.write('c');
    await proxy.set({ kind: 'none' });
    client.socket.end('d');
    await seen(far, 'abcd');
    await until(() => far.over === 'end');
  });

  test('refuse: nobody listens, open connections go on, and it comes back on the same port', async (context) => {
    const { client, far } = await open({ kind: 'none' }, context);
    await proxy.set({ kind: 'refuse' });
    const other = connect(proxy.port, proxy.host);
    const [error] = (await once(other, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNREFUSED');
    client.socket.write('still here');
    await seen(far, 'still here');
    await open({ kind: 'none' }, context);
  });

  test('a target that is not there resets the client', async () => {
    const lonely = await startFaultProxy('/nowhere/at/all.sock');
    const client = new End(connect(lonely.port, lonely.host));
    await until(() => client.over !== 'no');
    await lonely.stop();
  });
});
