import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import test, { after, before, suite } from 'node:test';
import { inspect } from 'node:util';
import { connectSocket, placeName } from '../../src/pop3/connect.ts';
import type { ConnectOptions } from '../../src/pop3/connect.ts';
import { Pop3Error } from '../../src/pop3/error.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { freePort } from '../support/ports.ts';
import { startConnectProxy, startSocks5Proxy } from '../support/proxy-server.ts';
import type { ProxyOptions, ProxyServer } from '../support/proxy-server.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const GREETING = '+OK ready\r\n';
const SECRET = { user: 'us:er'.replace(':', '%'), password: 'p@ss/w\u00f6rd' };

async function greeting(options: Partial<ConnectOptions> & { port: number }): Promise<Socket> {
  const socket = await connectSocket({ host: '127.0.0.1', timeout: 5000, ...options });
  socket.on('error', () => undefined);
  let text = '';
  socket.on('data', (data) => (text += data.toString()));
  await until(() => text === GREETING, { what: `a greeting instead of ${text}` });
  return socket;
}

async function failure(options: Partial<ConnectOptions> & { port: number }): Promise<Pop3Error> {
  try {
    (await connectSocket({ host: '127.0.0.1', timeout: 5000, ...options })).destroy();
  } catch (error) {
    assert(error instanceof Pop3Error, inspect(error));
    assert.equal(error.code, 'pop3.connect');
    assert.equal(error.scope, 'account');
    return error;
  }
  assert.fail('it connected');
}

suite('connecting', () => {
  const sockets: Socket[] = [];
  const from: (string | undefined)[] = [];
  let server: Server;
  let port: number;

  before(async () => {
    server = createServer((socket) => {
      sockets.push(socket);
      from.push(socket.remoteAddress);
      socket.on('error', () => undefined);
      socket.end(GREETING);
    });
    server.listen(0, '::'); // both families
    await once(server, 'listening');
    ({ port } = server.address() as AddressInfo);
  });
  after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test('by name, by address of either family, and from an address of our own', async () => {
    for (const host of ['localhost', '127.0.0.1', '::1']) (await greeting({ host, port })).destroy();
    (await greeting({ host: 'localhost', port, sourceAddress: '127.0.0.3' })).destroy();
    assert.equal(from.at(-1), '::ffff:127.0.0.3');
  });

  test('leaves nothing of its own on the socket', async () => {
    const socket = await connectSocket({ host: '127.0.0.1', port, timeout: 5000 });
    for (const event of ['error', 'connect', 'close', 'end', 'readable', 'data', 'timeout']) {
      const own = event === 'end' ? 1 : 0; // Node's own
      assert.equal(socket.listenerCount(event), own, event);
    }
    socket.destroy();
  });

  test('says what to do about a refusal, an unknown name, a wrong source address', async () => {
    const closed = await freePort();
    const refused = await failure({ port: closed });
    assert.equal(refused.message, `cannot connect to 127.0.0.1:${String(closed)}: connection refused`);
    assert.match(refused.remedy ?? '', /`host` and `port`/);
    assert.equal(refused.server, `127.0.0.1:${String(closed)}`);
    assert.equal(refused.permanent, false);

    // all addresses of the name refuse
    assert.match((await failure({ host: 'localhost', port: closed })).message, /connection refused/);
    const unknown = await failure({ host: 'no-such-host.invalid', port });
    assert.match(unknown.message, /no host of that name|could not be looked up/);
    assert.match(unknown.remedy ?? '', /spelling|DNS/);
    const source = await failure({ port, sourceAddress: '192.0.2.1' });
    assert.match(source.message, /source address/);
    assert.match((await failure({ host: '::1', port, sourceAddress: '127.0.0.1' })).remedy ?? '', /same family/);
  });

  test('ends at its deadline, and when it is told to stop', async (context) => {
    const silent = await startSocks5Proxy({ silent: true }, context);
    const began = performance.now();
    const late = await failure({ port, proxy: silent.url, timeout: 60 });
    assert.match(late.message, /no answer within 60 ms/);
    assert.match(late.remedy ?? '', /firewall/);
    assert(performance.now() - began < 1000);

    const controller = new AbortController();
    const stopped = failure({ port, proxy: silent.url, signal: controller.signal });
    await until(() => silent.open > 0);
    controller.abort();
    assert.match((await stopped).message, /stopped/);
    assert.match((await failure({ port, signal: controller.signal })).message, /stopped/);
    await until(() => silent.open === 0, { what: 'the sockets are ended' });
  });

  test('shows IPv6 addresses with brackets', () => {
    assert.equal(placeName({ host: '::1', port: 995 }), '[::1]:995');
    assert.equal(placeName({ host: 'pop.example', port: 995 }), 'pop.example:995');
  });

  for (const [kind, start] of [
    ['socks5', startSocks5Proxy],
    ['http', startConnectProxy],
  ] as const) {
    suite(`through a proxy: ${kind}`, () => {
      const withProxy = async (options: ProxyOptions, work: (proxy: ProxyServer) => Promise<void>): Promise<void> => {
        await using proxy = await start(options);
        await work(proxy);
      };
      const url = (proxy: ProxyServer, user: string, password: string): string =>
        `${kind}://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${String(proxy.port)}`;

      test('the greeting comes through, however the proxy cuts its answers', async () => {
        for (const drip of [false, true]) {
          await withProxy({ drip }, async (proxy) => {
            for (const host of ['127.0.0.1', '::1', 'localhost']) {
              (await greeting({ host, port, proxy: proxy.url })).destroy();
            }
            const type = (number: number): string => (kind === 'socks5' ? `${String(number)} ` : '');
            const at = `:${String(port)}`;
            assert.deepEqual(proxy.requests, [
              `${type(1)}127.0.0.1${at}`,
              `${type(4)}::1${at}`,
              `${type(3)}localhost${at}`,
            ]);
          });
        }
      });

      test('names are looked up by the proxy', async () => {
        await withProxy({ target: { host: '127.0.0.1', port } }, async (proxy) => {
          (await greeting({ host: 'pop.b\u00fccher.invalid', port: 995, proxy: proxy.url })).destroy();
          assert.match(proxy.requests[0] ?? '', /(^|3 )pop\.xn--bcher-kva\.invalid:995$/);
        });
      });

      test('credentials are shown to the proxy, and to nobody else', async () => {
        await withProxy({ credentials: SECRET }, async (proxy) => {
          (await greeting({ port, proxy: url(proxy, SECRET.user, SECRET.password) })).destroy();
          assert.deepEqual(proxy.credentials, [`${SECRET.user}:${SECRET.password}`]);
          const wrong = await failure({ port, proxy: url(proxy, 'somebody', 'hunter2') });
          assert.match(wrong.message, /wants a user name and password/);
          assert.match(wrong.remedy ?? '', /percent-encoded/);
          assert.doesNotMatch(inspect(wrong), /somebody|hunter2/);
          assert.match((await failure({ port, proxy: proxy.url })).message, /wants a user name/);
        });
        await withProxy({ silent: true }, async (proxy) => {
          const late = await failure({ port, proxy: url(proxy, 'somebody', 'hunter2'), timeout: 50 });
          assert.doesNotMatch(inspect(late), /somebody|hunter2/);
        });
      });

      test('a proxy that refuses, is none, hangs up or is not there', async () => {
        const refusal = kind === 'socks5' ? 5 : '502 Bad\u001bGateway';
        await withProxy({ refuse: refusal }, async (proxy) => {
          const refused = await failure({ port, proxy: proxy.url });
          assert.match(refused.message, /through the proxy 127\.0\.0\.1:\d+: .*(beyond the proxy|status 502)/);
          assert.match(refused.remedy ?? '', /[Cc]heck `host` and `port`/);
          if (kind === 'http') assert.equal(refused.said, String.raw`Bad\x1bGateway`);
        });
        await withProxy({ refuse: kind === 'socks5' ? 2 : '403 Forbidden' }, async (proxy) => {
          assert.match((await failure({ port, proxy: proxy.url })).remedy ?? '', /allow/);
        });
        for (const garbage of ['SSH-2.0-OpenSSH\r\n\r\n', '+OK POP3\r\n\r\n', 'HTTP/1.1 2x OK\r\n\r\n']) {
          await withProxy({ garbage }, async (proxy) => {
            assert.match((await failure({ port, proxy: proxy.url })).message, /this is no/);
          });
        }
        await withProxy({ garbage: '' }, async (proxy) => {
          assert.match((await failure({ port, proxy: proxy.url })).message, /hung up|reset/);
        });
        const gone = `${kind}://127.0.0.1:${String(await freePort())}`;
        const nobody = await failure({ port, proxy: gone });
        assert.match(nobody.message, /connection refused/);
        assert.match(nobody.remedy ?? '', /`proxy`/);
      });

      test('what is no host name never gets into the request', async () => {
        await withProxy({}, async (proxy) => {
          for (const host of ['a b', 'a\r\nX: y', '', 'x'.repeat(300)]) {
            assert.match((await failure({ host, port, proxy: proxy.url })).message, /no host name/);
          }
          assert.deepEqual(proxy.requests, []);
        });
      });
    });
  }

  test('an HTTP proxy whose answer never ends', async (context) => {
    const proxy = await startConnectProxy({ garbage: `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(10_000)}` }, context);
    assert.match((await failure({ port, proxy: proxy.url })).message, /has no end/);
  });

  test('a proxy URL that cannot be used is refused for good, and not shown', async () => {
    for (const proxy of [
      'nonsense hunter2',
      'ftp://user:hunter2@proxy.example',
      'https://user:hunter2@proxy.example',
      'socks5://user:%zz-hunter2@proxy.example',
      `socks5://user:${'hunter2'.repeat(50)}@proxy.example`,
      'socks5://:hunter2@proxy.example',
      'http://a%3Ab:hunter2@proxy.example',
    ]) {
      const wrong = await failure({ port, proxy });
      assert.equal(wrong.permanent, true, proxy);
      assert.doesNotMatch(inspect(wrong), /hunter2/);
    }
  });
});
