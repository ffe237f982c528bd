// The HTTP face: read only, closed to who has no token, and not to be held up.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { openHttp } from '../../src/ops/http.ts';
import type { HttpFace, HttpSource } from '../../src/ops/http.ts';
import { until } from '../support/wait.ts';

const TOKEN = 'a-token-of-some-length';

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

async function open(
  t: TestContext,
  source: Partial<HttpSource> = {},
  token: string | undefined = TOKEN,
): Promise<HttpFace> {
  const secret = token === undefined ? undefined : { origin: 'test', reveal: () => Promise.resolve(token) };
  const face = await openHttp(
    { host: '127.0.0.1', port: 0, token: secret },
    {
      health: () => Promise.resolve(undefined),
      status: () => Promise.resolve([]),
      destinations: () => Promise.resolve([{ name: 'in"box', paused: true }]),
      configRefused: () => false,
      ...source,
    },
  );
  t.after(() => face.close());
  return face;
}

async function ask(face: HttpFace, path: string, headers = {}, method = 'GET'): Promise<Answer> {
  const [host, port] = face.address.split(':');
  const asked = request({ host, port, path, method, headers, agent: false }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode, headers: response.headers, body };
}

suite('the HTTP face', () => {
  test('tells health to everybody, all else to who has the token', async (t) => {
    const face = await open(t);
    assert.equal((await ask(face, '/health')).status, 200);
    for (const path of ['/status', '/metrics', '/', '/nothing']) {
      const refused = await ask(face, path);
      assert.equal(refused.status, 401);
      assert.equal(refused.headers['www-authenticate'], 'Bearer');
      for (const wrong of [
        '',
        'Bearer',
        'Bearer wrong',
        `Basic ${TOKEN}`,
        `Bearer ${TOKEN}x`,
        `Bearer ${TOKEN.slice(1)}`,
      ])
        assert.equal((await ask(face, path, { authorization: wrong })).status, 401, wrong);
    }
    const authorization = `Bearer ${TOKEN}`;
    assert.equal((await ask(face, '/status', { authorization })).body, '[]\n');
    assert.match(
      (await ask(face, '/metrics', { authorization })).body,
      /^mailferry_destination_paused\{destination="in\\"box"\} 1$/m,
    );
    assert.equal((await ask(face, '/nothing', { authorization })).status, 404);
  });

  test('says that it is not well, and not why, to who has no token', async (t) => {
    const face = await open(t, { health: () => Promise.resolve('Redis at 10.0.0.7 is out of reach') });
    const { status, body } = await ask(face, '/health');
    assert.deepEqual([status, body], [503, 'unhealthy\n']);
  });

  test('takes GET and HEAD alone, and lets no page of another site read it', async (t) => {
    const face = await open(t, {}, undefined);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])
      assert.equal((await ask(face, '/status', { origin: 'https://evil.example' }, method)).status, 405, method);
    const { headers } = await ask(face, '/status', { origin: 'https://evil.example' });
    assert.deepEqual(
      Object.keys(headers).filter((name) => name.startsWith('access-control')),
      [],
    );
    assert.equal(headers['cache-control'], 'no-store');
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal((await ask(face, '/status', {}, 'HEAD')).body, '');
  });

  test('ends a request that trickles in, and serves others meanwhile', { timeout: 30_000 }, async (t) => {
    const face = await open(t, {}, undefined);
    const [host, port] = face.address.split(':');
    const began = Date.now();
    const slow = connect(Number(port), host);
    t.after(() => slow.destroy());
    slow.on('error', () => undefined).resume();
    slow.write('GET /health HTTP/1.1\r\n');
    const trickle = setInterval(() => slow.write('x: y\r\n'), 250);
    t.after(() => clearInterval(trickle));
    assert.equal((await ask(face, '/health')).status, 200);
    await once(slow, 'close');
    assert(Date.now() - began < 10_000, 'its header has less time than a whole request');
  });

  test('holds a bounded number of connections, and none of them when it closes', async (t) => {
    const face = await open(t, {}, undefined);
    const [host, port] = face.address.split(':');
    let begun = 0;
    let ended = 0;
    const sockets = Array.from({ length: 100 }, () => connect(Number(port), host));
    for (const socket of sockets) {
      socket.on('error', () => undefined).resume();
      socket.once('connect', () => (begun += 1)).once('close', () => (ended += 1));
    }
    t.after(() => {
      for (const socket of sockets) socket.destroy();
    });
    await until(() => begun === 100 && ended === 36, { timeout: 5000, what: '64 of 100 held' });
    await face.close();
    await until(() => ended === 100, { timeout: 5000, what: 'the others' });
  });

  test('ends nothing but the connection of who talks nonsense', async (t) => {
    const face = await open(t, {}, undefined);
    const [host, port] = face.address.split(':');
    for (const octets of [
      '\x00\xff\r\n\r\n',
      'GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n',
      `GET / HTTP/1.1\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`,
    ]) {
      const socket = connect(Number(port), host);
      socket.on('error', () => undefined).resume();
      socket.end(octets, 'latin1');
      await new Promise((resolve) => socket.once('close', resolve));
    }
    assert.equal((await ask(face, '/health')).status, 200);
  });
});
