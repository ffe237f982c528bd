import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { connect, createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import test, { suite } from 'node:test';
import type { TestContext } from 'node:test';
import { createServer } from 'node:tls';
import type { TlsOptions, TLSSocket } from 'node:tls';
import { inspect } from 'node:util';
import type { TlsConfig } from '../../src/config/types.ts';
import { channelBinding } from '../../src/pop3/channel-binding.ts';
import { SessionCache } from '../../src/pop3/session-cache.ts';
import { handshakeFailure, TlsFailure } from '../../src/pop3/tls-failure.ts';
import type { TlsReason } from '../../src/pop3/tls-failure.ts';
import { upgradeTls } from '../../src/pop3/tls.ts';
import { certificates } from '../support/certificates.ts';
import type { Certificates } from '../support/certificates.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const GREETING = '+OK ready\r\n';
const PLAIN_TLS: TlsConfig = {
  caFile: undefined,
  fingerprint: undefined,
  serverName: undefined,
  certFile: undefined,
  keyFile: undefined,
};

interface Running {
  readonly port: number;
  readonly connections: TLSSocket[];
}

/** A TLS server that greets, gone after the test. */
async function serve(context: TestContext, files: Certificates, options: TlsOptions = {}): Promise<Running> {
  const connections: TLSSocket[] = [];
  const server = createServer({ cert: files.cert, key: files.key, ...options }, (socket) => {
    connections.push(socket);
    socket.on('error', () => undefined);
    socket.write(GREETING);
  });
  server.on('tlsClientError', () => undefined);
  return { port: await listen(context, server), connections };
}

async function listen(context: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

interface Attempt {
  readonly port: number;
  readonly host?: string;
  readonly tls?: Partial<TlsConfig>;
  readonly timeout?: number;
  readonly signal?: AbortSignal;
  readonly sessionCache?: SessionCache;
}

async function upgrade({ port, host = 'localhost', tls, timeout = 5000, ...rest }: Attempt): Promise<TLSSocket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  try {
    return await upgradeTls(socket, { host, port, tls: { ...PLAIN_TLS, ...tls }, timeout, ...rest });
  } catch (error) {
    assert(socket.destroyed, 'the socket is ended when there is no TLS');
    throw error;
  }
}

/** Upgrades, reads the greeting, and ends the connection with the test. */
async function greeted(context: TestContext, attempt: Attempt): Promise<TLSSocket> {
  const socket = await upgrade(attempt);
  for (const event of ['error', 'secureConnect', 'data']) assert.equal(socket.listenerCount(event), 0, event);
  socket.on('error', () => undefined);
  context.after(() => socket.destroy());
  let text = '';
  socket.on('data', (data) => (text += data.toString()));
  await until(() => text === GREETING);
  return socket;
}

/** What stays as it is until a person changes something. */
const LASTING: ReadonlySet<TlsReason> = new Set(['name', 'issuer', 'fingerprint', 'plaintext', 'client', 'file']);

async function failure(attempt: Attempt, reason: TlsReason): Promise<TlsFailure> {
  try {
    (await upgrade(attempt)).destroy();
  } catch (error) {
    assert(error instanceof TlsFailure, inspect(error));
    assert.equal(error.reason, reason, error.message);
    assert.equal(error.code, 'pop3.tls');
    assert.equal(error.permanent, LASTING.has(reason), reason);
    assert.match(error.server ?? '', /:\d+$/);
    return error;
  }
  assert.fail('it was accepted');
}

suite('TLS', () => {
  test('verified by a CA file: names, addresses without SNI, another name', async (context) => {
    const files = await certificates();
    const { port, connections } = await serve(context, files);
    const tls = { caFile: files.caFile };
    const socket = await greeted(context, { port, tls });
    assert.equal(socket.getProtocol(), 'TLSv1.3');
    assert.equal(connections[0]?.servername, 'localhost');
    await greeted(context, { port, tls, host: '127.0.0.1' });
    assert.equal(connections[1]?.servername, false);
    await greeted(context, { port, tls, host: 'LOCALHOST.' });
    await greeted(context, { port, tls: { ...tls, serverName: 'localhost' }, host: 'pop.elsewhere.example' });
    assert.equal(connections[3]?.servername, 'localhost');
    await greeted(context, { port, tls: { ...tls, serverName: '::1' }, host: '192.0.2.1' });
  });

  test('the certificate is for other names', async (context) => {
    const files = await certificates({ names: ['pop.example', '*.mail.example', '192.0.2.7'] });
    const { port } = await serve(context, files);
    const tls = { caFile: files.caFile };
    const wrong = await failure({ port, tls }, 'name');
    assert.equal(
      wrong.message,
      `no TLS with localhost:${String(port)}: the certificate is for pop.example, *.mail.example, 192.0.2.7, not for localhost`,
    );
    assert.match(wrong.remedy ?? '', /serverName/);
    await failure({ port, tls, host: '127.0.0.1' }, 'name');
    await failure({ port, tls: { ...tls, serverName: 'a.b.mail.example' } }, 'name');
    await greeted(context, { port, tls: { ...tls, serverName: 'a.mail.example' } });
    await greeted(context, { port, tls: { ...tls, serverName: '192.0.2.7' } });
  });

  test('a certificate with an address as its common name alone', async (context) => {
    const files = await certificates({ names: [] });
    const { port } = await serve(context, files);
    const wrong = await failure({ port, host: '127.0.0.1', tls: { caFile: files.caFile } }, 'name');
    assert.match(wrong.message, /for nobody, not for 127\.0\.0\.1/);
  });

  test('expired, and not yet valid', async (context) => {
    for (const [options, words] of [
      [{ days: -1 }, /expired on .* GMT/],
      [{ startsIn: 3 }, /valid from .* GMT/],
    ] as const) {
      const files = await certificates(options);
      const { port } = await serve(context, files);
      const wrong = await failure({ port, tls: { caFile: files.caFile } }, 'validity');
      assert.match(wrong.message, words);
      assert.match(wrong.remedy ?? '', /clock/);
    }
  });

  test('signed by nobody that is trusted: says which fingerprint to pin', async (context) => {
    const selfSigned = await certificates({ selfSigned: true });
    const signed = await certificates();
    for (const files of [selfSigned, signed]) {
      const { port } = await serve(context, files);
      const wrong = await failure({ port }, 'issuer');
      assert.match(wrong.remedy ?? '', /caFile/);
      assert(wrong.remedy?.includes(`fingerprint: ${files.fingerprint}`), wrong.remedy);
      const other = files === signed ? selfSigned : await certificates({ client: 'worker' });
      await failure({ port, tls: { caFile: other.caFile } }, 'issuer');
      await greeted(context, { port, tls: { fingerprint: files.fingerprint } });
    }
    assert.match(
      (await failure({ port: (await serve(context, selfSigned)).port }, 'issuer')).message,
      /nobody but itself/,
    );
    // a self-signed certificate may be its own authority
    const { port } = await serve(context, selfSigned);
    await greeted(context, { port, tls: { caFile: selfSigned.certFile } });
  });

  test('a pinned fingerprint replaces chain, name and time, and nothing else will do', async (context) => {
    const files = await certificates({ days: -1, names: ['other.example'] });
    const trusted = await certificates();
    const { port } = await serve(context, files);
    await greeted(context, { port, tls: { fingerprint: files.fingerprint } });
    await greeted(context, { port, host: '127.0.0.1', tls: { fingerprint: files.fingerprint } });
    const good = await serve(context, trusted);
    const tls = { caFile: trusted.caFile, fingerprint: files.fingerprint };
    const wrong = await failure({ port: good.port, tls }, 'fingerprint');
    assert(wrong.message.includes(trusted.fingerprint));
  });

  test('a server without TLS on this port, and one that speaks TLS of the past', async (context) => {
    const plain = await listen(
      context,
      createTcpServer((socket) => void socket.write('+OK POP3 server ready\r\n')),
    );
    assert.match((await failure({ port: plain }, 'plaintext')).remedy ?? '', /starttls/);
    const files = await certificates();
    const ciphers = 'DEFAULT:@SECLEVEL=0';
    const old = await serve(context, files, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers });
    assert.match((await failure({ port: old.port, tls: { caFile: files.caFile } }, 'version')).remedy ?? '', /1\.2/);
    const strict = await serve(context, files, { maxVersion: 'TLSv1.2', ciphers: 'AES128-CCM' });
    await failure({ port: strict.port, tls: { caFile: files.caFile } }, 'version');
  });

  test('a handshake that is cut, reset, or never ends', async (context) => {
    const files = await certificates();
    const { port } = await serve(context, files);
    const proxy = await startFaultProxy(port);
    context.after(() => proxy.stop());
    const attempt = { port: proxy.port, tls: { caFile: files.caFile } };
    for (const after of [1, 100, 700]) {
      for (const kind of ['cut', 'reset'] as const) {
        await proxy.set({ kind, after, direction: 'toClient' });
        await failure(attempt, 'cut');
      }
    }
    await proxy.set({ kind: 'stall', after: 100, direction: 'toClient' });
    assert.match((await failure({ ...attempt, timeout: 50 }, 'timeout')).message, /took too long/);
    const controller = new AbortController();
    const stopped = failure({ ...attempt, signal: controller.signal }, 'stopped');
    const passed = proxy.octets.toServer;
    await until(() => proxy.octets.toServer > passed);
    controller.abort();
    await stopped;
    await failure({ ...attempt, signal: controller.signal }, 'stopped');
    await proxy.set({ kind: 'none' });
    await until(() => proxy.open === 0);
  });

  test('a client certificate', async (context) => {
    const files = await certificates({ client: 'worker' });
    const { caFile, clientCertFile: certFile, clientKeyFile: keyFile } = files;
    const options = { requestCert: true, rejectUnauthorized: true, ca: [await readFile(caFile)] };
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { port, connections } = await serve(context, files, { ...options, maxVersion });
      await greeted(context, { port, tls: { caFile, certFile, keyFile } });
      assert.equal(connections[0]?.authorized, true);
    }
    // with TLS 1.3 the refusal comes when the handshake is over for us
    const { port } = await serve(context, files, options);
    const socket = await upgrade({ port, tls: { caFile } });
    socket.resume();
    const [error] = (await once(socket, 'error')) as [Error];
    assert.equal(handshakeFailure('x:1', error).reason, 'client');
    const old = await serve(context, files, { ...options, maxVersion: 'TLSv1.2' });
    assert.match((await failure({ port: old.port, tls: { caFile } }, 'version')).remedy ?? '', /client certificate/);
  });

  test('PEM files that are missing, empty, none, or do not belong together', async (context) => {
    const files = await certificates({ client: 'worker' });
    const dir = await tempDir(context);
    const { port } = await serve(context, files);
    await writeFile(`${dir}/empty.pem`, '');
    await writeFile(`${dir}/broken.pem`, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    const { caFile, certFile, clientKeyFile } = files;
    assert.match((await failure({ port, tls: { caFile: `${dir}/none.pem` } }, 'file')).message, /cannot be read/);
    assert.match((await failure({ port, tls: { caFile: `${dir}/empty.pem` } }, 'file')).message, /holds no PEM cert/);
    assert.match((await failure({ port, tls: { caFile: `${dir}/broken.pem` } }, 'file')).message, /cannot be used/);
    const unpaired = { caFile, certFile, keyFile: clientKeyFile };
    assert.match((await failure({ port, tls: unpaired }, 'file')).remedy ?? '', /belong together/);
    await failure({ port, tls: { caFile, certFile, keyFile: certFile } }, 'file');
  });

  test('sessions are resumed, where everything they were verified by is the same', async (context) => {
    const files = await certificates();
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { port } = await serve(context, files, { maxVersion });
      const sessionCache = new SessionCache();
      const tls = { caFile: files.caFile };
      const first = await greeted(context, { port, tls, sessionCache });
      assert.equal(first.isSessionReused(), false);
      await until(() => sessionCache.size === 1);
      for (let polls = 0; polls < 3; polls++) {
        const next = await greeted(context, { port, tls, sessionCache });
        assert.equal(next.isSessionReused(), true, maxVersion);
        assert.notEqual(channelBinding(next), undefined);
      }
      assert.equal(sessionCache.size, 1);
      // another name: verified anew, and refused
      await failure({ port, host: 'wrong.example', tls, sessionCache }, 'name');
      await failure({ port, sessionCache }, 'issuer');
      const pinned = { fingerprint: files.fingerprint };
      assert.equal((await greeted(context, { port, tls: pinned, sessionCache })).isSessionReused(), false);
      await until(() => sessionCache.size === 2, { what: 'no session of a server that was refused' });
      assert.equal((await greeted(context, { port, tls: pinned, sessionCache })).isSessionReused(), true);
    }
  });

  test('a session that the server has forgotten makes a full handshake', async (context) => {
    const files = await certificates();
    const sessionCache = new SessionCache();
    const tls = { caFile: files.caFile };
    const one = await serve(context, files);
    await greeted(context, { port: one.port, tls, sessionCache });
    await until(() => sessionCache.size === 1);
    const other = await serve(context, files); // with ticket keys of its own
    const socket = connect(other.port, '127.0.0.1');
    await once(socket, 'connect');
    const options = { host: 'localhost', port: one.port, tls: { ...PLAIN_TLS, ...tls }, timeout: 5000, sessionCache };
    const secure = await upgradeTls(socket, options);
    context.after(() => secure.destroy());
    assert.equal(secure.isSessionReused(), false);
  });

  test('a server that hangs up on resumed sessions gets full handshakes from then on', async (context) => {
    const files = await certificates();
    const { port } = await serve(context, files);
    const proxy = await startFaultProxy(port);
    context.after(() => proxy.stop());
    const sessionCache = new SessionCache();
    const attempt = { port: proxy.port, tls: { caFile: files.caFile }, sessionCache };
    await greeted(context, attempt);
    await until(() => sessionCache.size === 1);
    await proxy.set({ kind: 'reset', after: 1, direction: 'toServer' });
    await failure(attempt, 'cut');
    await proxy.set({ kind: 'none' });
    for (let polls = 0; polls < 3; polls++) {
      const socket = await greeted(context, attempt);
      assert.equal(socket.isSessionReused(), false);
    }
  });

  test('the cache keeps what was used last', () => {
    const cache = new SessionCache(2);
    const session = { session: Buffer.from('s'), certificate: Buffer.from('c') };
    cache.set('a', session);
    cache.set('b', session);
    cache.get('a');
    cache.set('c', session);
    assert.deepEqual([cache.get('a'), cache.get('b'), cache.get('c'), cache.size], [session, undefined, session, 2]);
    cache.never('a');
    cache.set('a', session);
    assert.equal(cache.get('a'), undefined);
    assert.equal(cache.size, 2);
  });

  test('channel binding: both sides see the same', async (context) => {
    const ec = await certificates();
    const { port, connections } = await serve(context, ec);
    const socket = await greeted(context, { port, tls: { caFile: ec.caFile } });
    const theirs = connections[0]?.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0));
    assert.deepEqual(channelBinding(socket), { type: 'tls-exporter', data: theirs });

    for (const [options, length] of [
      [{ key: 'rsa', digest: 'sha384' }, 48],
      [{ key: 'ec', digest: 'sha512' }, 64],
      [{ key: 'ec' }, 32],
    ] as const) {
      const files = await certificates(options);
      const old = await serve(context, files, { maxVersion: 'TLSv1.2' });
      const secure = await greeted(context, { port: old.port, tls: { caFile: files.caFile } });
      const binding = channelBinding(secure) ?? assert.fail('none');
      assert.equal(binding.type, 'tls-server-end-point');
      assert.equal(binding.data.length, length);
      if (length === 32) assert.equal(binding.data.toString('hex'), files.fingerprint);
    }
    const ed = await certificates({ key: 'ed25519' });
    const { port: edPort } = await serve(context, ed, { maxVersion: 'TLSv1.2' });
    const without = await greeted(context, { port: edPort, tls: { fingerprint: ed.fingerprint } });
    assert.equal(channelBinding(without), undefined); // a signature without a hash: RFC 5929 defines nothing
  });
});
