import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { Agent, buildConnector } from 'undici';
import { postHttp } from '../../src/delivery/http-exchange.ts';
import type { HttpBeginning } from '../../src/delivery/http-exchange.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const BODY = Buffer.from('Subject: hello\r\n\r\nHello.\r\n');
const NEVER = new AbortController().signal;

interface Asked {
  readonly answer: Promise<HttpBeginning>;
  /** What happened, in order. */
  readonly events: string[];
  /** What the server got. */
  readonly received: () => string;
  /** A connection came, and has ended. */
  readonly ended: () => boolean;
}

/** Posts to a server that says this as soon as it has got anything, or, without words, nothing at all. */
async function ask(
  t: TestContext,
  words: string | undefined,
  { signal = NEVER, scheme = 'http', octets = 1000, time = 10_000, gate = Promise.resolve() } = {},
): Promise<Asked> {
  const peers: Socket[] = [];
  let received = '';
  let ended = false;
  const server = createServer((peer) => {
    peers.push(peer);
    peer.on('error', () => undefined);
    peer.on('close', () => (ended = true));
    peer.on('data', (chunk) => (received += chunk.toString('latin1')));
    if (words !== undefined) peer.once('data', () => peer.write(words));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const connect = buildConnector({});
  const agent = new Agent({
    connections: 1,
    connect: (options, callback) => void gate.then(() => connect(options, callback)),
  });
  t.after(async () => {
    for (const peer of peers) peer.destroy();
    server.close();
    await agent.close();
  });
  const { port } = server.address() as AddressInfo;
  const events: string[] = [];
  const answer = postHttp(
    agent,
    {
      origin: `${scheme}://127.0.0.1:${String(port)}`,
      path: '/',
      headers: { 'content-length': String(BODY.length) },
      body: BODY,
    },
    { octets, time },
    signal,
    () => events.push('start'),
    () => events.push('status'),
  );
  answer.catch(() => events.push('failed'));
  if (scheme === 'https') await once(server, 'connection');
  return { answer, events, received: () => received, ended: () => ended };
}

suite('a request over HTTP and the beginning of its answer', { concurrency: true }, () => {
  test('what is only announced (1xx) is no answer', async (t) => {
    const hints = 'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n';
    const asked = await ask(t, `${hints}HTTP/1.1 503 Busy\r\nretry-after: 5\r\ncontent-length: 4\r\n\r\nbusy`);
    const { status, headers, body } = await asked.answer;
    assert.deepEqual([status, headers['retry-after'], body.toString()], [503, '5', 'busy']);
    assert.deepEqual(asked.events, ['start', 'status']);
    assert(asked.received().endsWith(`\r\n\r\n${BODY.toString()}`));
  });

  test('a body that is too long, or never ends, is cut: the status is what counts', async (t) => {
    const long = await ask(t, `HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n${'x'.repeat(5000)}`);
    const cut = await long.answer;
    assert.equal(cut.status, 200);
    assert(cut.body.length > 1000 && cut.body.length <= 5000);
    const slow = await ask(t, 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun', { time: 20 });
    assert.equal((await slow.answer).body.toString(), 'begun');
  });

  test('told to stop while the connection is being made: at once, and nothing is sent', async (t) => {
    const stop = new AbortController();
    // TLS is waited for, and never begins.
    const asked = await ask(t, undefined, { signal: stop.signal, scheme: 'https' });
    stop.abort(new Error('not finished in time'));
    await assert.rejects(asked.answer, /not finished in time/);
    assert.deepEqual(asked.events, ['failed']);
    await assert.rejects((await ask(t, undefined, { signal: stop.signal })).answer, /not finished in time/);
  });

  test('told to stop before the connection is there: nothing goes over it when it comes', async (t) => {
    const stop = new AbortController();
    const gate = Promise.withResolvers<void>();
    const asked = await ask(t, 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n', {
      signal: stop.signal,
      gate: gate.promise,
    });
    stop.abort(new Error('not finished in time'));
    await assert.rejects(asked.answer, /not finished in time/);
    gate.resolve();
    await until(() => asked.ended());
    assert.deepEqual([asked.received(), asked.events], ['', ['failed']]);
  });

  test('told to stop while the answer is waited for', async (t) => {
    const stop = new AbortController();
    const asked = await ask(t, undefined, { signal: stop.signal });
    await until(() => asked.received() !== '');
    stop.abort(new Error('not finished in time'));
    await assert.rejects(asked.answer, /not finished in time/);
    assert.deepEqual(asked.events, ['start', 'failed']);
  });

  test('an answer that breaks off in its header is none', async (t) => {
    const asked = await ask(t, 'HTTP/1.1 200 OK\r\ncontent-le\u0000');
    await assert.rejects(asked.answer);
    assert.deepEqual(asked.events, ['start', 'failed']);
  });
});
