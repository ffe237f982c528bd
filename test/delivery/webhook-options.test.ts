import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import type { TlsConfig, WebhookConfig } from '../../src/config/types.ts';
import type { Outcome } from '../../src/delivery/destination.ts';
import { guardedConnector } from '../../src/delivery/http-connector.ts';
import type { Lookup } from '../../src/delivery/http-connector.ts';
import { openWebhook } from '../../src/delivery/webhook.ts';
import { startHttpSink } from '../support/http-sink.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startConnectProxy } from '../support/proxy-server.ts';
import type { ProxyServer } from '../support/proxy-server.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { caFile } from '../support/tls.ts';

assertNoLeaks();

const NO_TLS: TlsConfig = {
  caFile: undefined,
  fingerprint: undefined,
  serverName: undefined,
  certFile: undefined,
  keyFile: undefined,
};
const MAIL = 'From: jane@example.org\r\nSubject: hello\r\n\r\nHello.\r\n';
const secretOf = (text: string): { reveal(): Promise<string> } => ({ reveal: () => Promise.resolve(text) });
const key = (letter: string): string => `whsec_${Buffer.alloc(32, letter).toString('base64')}`;

async function post(url: string, changes: Partial<WebhookConfig>, mail = MAIL): Promise<Outcome> {
  const config: WebhookConfig = {
    name: 'helpdesk',
    type: 'webhook',
    concurrency: 3,
    timeout: 5000,
    url,
    secret: undefined,
    format: 'raw',
    headers: {},
    allowPrivate: true,
    tls: NO_TLS,
    ...changes,
  };
  const destination = openWebhook(config, { hostName: 'ferry.test', now: () => new Date() });
  try {
    return await destination.deliver(deliveryOf(storedMessage(mail)));
  } finally {
    await destination.close();
  }
}

suite('keys and credentials', { concurrency: true }, () => {
  test('a receiver that knows either key can verify', async () => {
    await using sink = await startHttpSink();
    await post(sink.url, { secret: secretOf(key('n')), moreSecrets: [secretOf(key('o'))] });
    const { headers, body } = sink.requests[0] ?? assert.fail();
    for (const letter of ['n', 'o']) {
      new Webhook(key(letter)).verify(body ?? '', headers as Record<string, string>, { jsonParse: false });
    }
    assert.throws(() => new Webhook(key('x')).verify(body ?? '', headers as Record<string, string>));
  });

  test('basic and bearer', async () => {
    await using sink = await startHttpSink();
    await post(sink.url, { auth: { kind: 'basic', user: 'jane', password: secretOf('p:w') } });
    await post(sink.url, { auth: { kind: 'bearer', token: secretOf('t0ken\n') } });
    assert.deepEqual(
      sink.requests.map(({ headers }) => headers.authorization),
      ['Basic amFuZTpwOnc=', 'Bearer t0ken'],
    );
  });

  test('headers of the config stand beside ours and never replace them', async () => {
    await using sink = await startHttpSink();
    await post(sink.url, {
      headers: { 'X-Tenant': 'blue', 'X-MAILFERRY-Size': '0', 'User-Agent': 'other', Constructor: 'me' },
    });
    const { headers } = sink.requests[0] ?? assert.fail();
    assert.equal(headers['x-tenant'], 'blue');
    assert.equal(headers['constructor'], 'me');
    assert.equal(headers['x-mailferry-size'], String(MAIL.length));
    assert.equal(headers['user-agent'], 'mailferry');
  });
});

suite('multipart', { concurrency: true }, () => {
  test('has the payload, each attachment and the message', async () => {
    const mail = [
      'Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=',
      'MIME-Version: 1.0',
      'Content-Type: multipart/mixed; boundary=b',
      '',
      '--b',
      '',
      'text',
      '--b',
      'Content-Type: application/pdf; name="a\\"b.pdf"',
      'Content-Disposition: attachment',
      'Content-Transfer-Encoding: base64',
      '',
      'AAEC/w==',
      '--b--',
      '',
    ].join('\r\n');
    await using sink = await startHttpSink({ secret: key('n') });
    assert.equal((await post(sink.url, { format: 'multipart', secret: secretOf(key('n')) }, mail)).kind, 'confirmed');
    const { headers, body, signature } = sink.requests[0] ?? assert.fail();
    assert.equal(signature, 'right');
    const type = headers['content-type'] ?? '';
    const form = await new Response(body && new Uint8Array(body), { headers: { 'content-type': type } }).formData();
    assert.deepEqual([...form.keys()], ['payload', 'attachment-1', 'message']);
    const payload = JSON.parse(form.get('payload') as string) as { subject: string; attachments: object[] };
    assert.equal(payload.subject, 'Grüße');
    assert.deepEqual(payload.attachments, [
      {
        part: 'attachment-1',
        filename: 'a"b.pdf',
        contentType: 'application/pdf',
        disposition: 'attachment',
        contentId: null,
        size: 4,
      },
    ]);
    const file = form.get('attachment-1') as File;
    assert.equal(file.type, 'application/pdf');
    assert.deepEqual(Buffer.from(await file.arrayBuffer()), Buffer.from([0, 1, 2, 255]));
    const message = form.get('message') as File;
    assert.equal(message.type, 'message/rfc822');
    assert.equal(Buffer.from(await message.arrayBuffer()).toString('latin1'), mail);
  });
});

suite('a proxy', { concurrency: true }, () => {
  const credentials = { user: 'jane', password: 'p@ss' };
  const urlFor = (proxy: ProxyServer): string => proxy.url.replace('://', '://jane:p%40ss@');

  for (const tls of ['server', undefined] as const) {
    test(`carries ${tls === undefined ? 'http' : 'https'}`, async () => {
      await using proxy = await startConnectProxy({ credentials });
      await using sink = await startHttpSink(tls === undefined ? {} : { tls });
      const outcome = await post(sink.url, { proxy: secretOf(urlFor(proxy)), tls: { ...NO_TLS, caFile } });
      assert.equal(outcome.kind, 'confirmed', outcome.said);
      assert.deepEqual(proxy.requests, [`127.0.0.1:${String(sink.port)}`]);
      assert.deepEqual(proxy.credentials, ['jane:p@ss']);
    });
  }

  test('that refuses is named without its password', async () => {
    await using proxy = await startConnectProxy({ refuse: 407 });
    const outcome = await post('https://example.com/', { proxy: secretOf(urlFor(proxy)) });
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    assert.match(outcome.said, /the proxy .* did not connect: HTTP.* 407/);
    assert.doesNotMatch(outcome.said, /p@ss|p%40ss/);
    const none = await post('https://example.com/', { proxy: secretOf('no url with p@ss') });
    assert.equal(none.kind, 'deferred');
    assert.doesNotMatch(none.said, /p@ss/);
  });

  test('that answers garbage, or without end, is given up', async () => {
    for (const garbage of ['\0\r\n\r\n', 'HTTP/1.1 200 OK', 'x'.repeat(20_000)]) {
      await using proxy = await startConnectProxy({ garbage });
      const outcome = await post('https://example.com/', { proxy: secretOf(urlFor(proxy)) });
      assert.equal(outcome.kind, 'deferred');
      assert.match(outcome.said, /the proxy .* did not connect/);
    }
  });
});

test('a name that leads elsewhere when it is looked up again gets no connection', async () => {
  await using sink = await startHttpSink();
  const answers = ['8.8.8.8', '127.0.0.1', '169.254.169.254'];
  const attempts: string[] = [];
  for (const address of answers.slice(1)) {
    const resolve = ((_host: string, _options: object, callback: (error: null, found: object[]) => void) => {
      callback(null, [{ address, family: 4 }]);
    }) as unknown as Lookup;
    const connector = guardedConnector({ tls: NO_TLS, allowPrivate: false }, resolve);
    await new Promise<void>((done) => {
      connector({ hostname: 'rebound.example', protocol: 'http:', port: String(sink.port) }, (...[error]) => {
        attempts.push(error?.message ?? 'connected');
        done();
      });
    });
  }
  for (const attempt of attempts) assert.match(attempt, /is not an address that a webhook may go to/);
  assert.equal(sink.connections, 0);
});
