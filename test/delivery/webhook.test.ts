import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { suite, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import type { WebhookConfig } from '../../src/config/types.ts';
import type { Outcome } from '../../src/delivery/destination.ts';
import { PARSE_LIMIT } from '../../src/delivery/webhook-message.ts';
import { payloadJsonSchema, webhookPayload } from '../../src/delivery/webhook-payload.ts';
import type { WebhookPayload } from '../../src/delivery/webhook-payload.ts';
import { openWebhook } from '../../src/delivery/webhook.ts';
import { startHttpSink } from '../support/http-sink.ts';
import type { HttpSink } from '../support/http-sink.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { deliveryOf, hugeMessage, storedMessage } from '../support/stored.ts';
import { caFile, certificateFiles, fingerprintOfCertificate } from '../support/tls.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const MAIL = 'From: Jane <jane@example.org>\r\nTo: me@example.net\r\nSubject: hello\r\n\r\nHello.\r\n.\r\nBye.';
const SECRET = `whsec_${Buffer.from('a key of more than sixteen octets').toString('base64')}`;
const TLS = {
  caFile: undefined,
  fingerprint: undefined,
  serverName: undefined,
  certFile: undefined,
  keyFile: undefined,
};
const now = new Date();
const context = { hostName: 'ferry.test', now: () => now };

function webhookConfig(sink: { readonly url: string }, changes: Partial<WebhookConfig> = {}): WebhookConfig {
  return {
    name: 'helpdesk',
    type: 'webhook',
    concurrency: 3,
    timeout: 5000,
    url: sink.url,
    secret: { reveal: () => Promise.resolve(SECRET) },
    format: 'raw',
    headers: {},
    allowPrivate: true,
    tls: TLS,
    ...changes,
  };
}

async function post(config: WebhookConfig, mail: Buffer | string = MAIL, streamed = false): Promise<Outcome> {
  const destination = openWebhook(config, context);
  try {
    return await destination.deliver(deliveryOf(storedMessage(mail, { streamed })));
  } finally {
    await destination.close();
  }
}

async function payloadOf(mail: Buffer | string): Promise<WebhookPayload> {
  await using sink = await startHttpSink({ secret: SECRET, keep: 100_000_000 });
  const outcome = await post(webhookConfig(sink, { format: 'json' }), mail);
  assert.equal(outcome.kind, 'confirmed');
  assert.equal(sink.requests[0]?.signature, 'right');
  const payload = webhookPayload.parse(JSON.parse(sink.requests[0].body?.toString() ?? ''));
  assert.deepEqual(Buffer.from(payload.raw, 'base64'), typeof mail === 'string' ? Buffer.from(mail, 'latin1') : mail);
  return payload;
}

suite('raw', { concurrency: true }, () => {
  for (const streamed of [false, true]) {
    test(`carries the octets and says what they are (${streamed ? 'stream' : 'memory'})`, async () => {
      await using sink = await startHttpSink({ secret: SECRET });
      const outcome = await post(webhookConfig(sink, { headers: { 'x-tenant': 'blue' } }), MAIL, streamed);
      assert.deepEqual([outcome.kind, outcome.said], ['confirmed', 'HTTP 200']);
      const [request] = sink.requests;
      const sha256 = createHash('sha256').update(MAIL).digest('hex');
      assert.equal(request?.sha256, sha256);
      const { headers } = request;
      assert.equal(headers['content-type'], 'message/rfc822');
      assert.equal(headers['content-length'], String(MAIL.length));
      assert.equal(headers['x-tenant'], 'blue');
      assert.equal(headers['x-mailferry-account'], 'old-isp');
      assert.equal(headers['x-mailferry-destination'], 'helpdesk');
      assert.equal(headers['x-mailferry-unique-id'], 'uid-1');
      assert.equal(headers['x-mailferry-sha256'], sha256);
      assert.equal(headers['x-mailferry-size'], String(MAIL.length));
      assert.equal(headers['x-mailferry-attempt'], '1');
      assert.equal(headers['x-mailferry-first-seen'], '2026-01-02T03:04:05.000Z');
      assert.equal(headers['webhook-id'], 'key_0123456789-abcdef');
      assert.equal(request.signature, 'right');
    });
  }

  test('is verified by the reference library', async () => {
    await using sink = await startHttpSink();
    await post(webhookConfig(sink));
    const { headers, body } = sink.requests[0] ?? assert.fail();
    const reference = new Webhook(SECRET);
    reference.verify(body ?? '', headers as Record<string, string>, { jsonParse: false });
    assert.throws(() => reference.verify(`${String(body)}!`, headers as Record<string, string>));
  });

  test('passes every octet, and none at all', async () => {
    const all = Buffer.from(Array.from({ length: 1024 }, (_, index) => index % 256));
    for (const mail of [all, Buffer.alloc(0)]) {
      await using sink = await startHttpSink({ secret: SECRET });
      assert.equal((await post(webhookConfig(sink), mail)).kind, 'confirmed');
      assert.deepEqual(sink.requests[0]?.body, mail);
      assert.equal(sink.requests[0].signature, 'right');
    }
  });

  test('without a secret is not signed, but has its id', async () => {
    await using sink = await startHttpSink({ secret: SECRET });
    await post(webhookConfig(sink, { secret: undefined }));
    assert.equal(sink.requests[0]?.signature, 'absent');
    assert.equal(sink.requests[0].headers['webhook-id'], 'key_0123456789-abcdef');
  });

  test('keeps hostile names out of the request', async () => {
    await using sink = await startHttpSink();
    const destination = openWebhook(webhookConfig(sink), context);
    const uniqueId = 'x\r\nX-Evil: yes\r\n\r\n\0é% \ud800';
    const outcome = await destination.deliver(deliveryOf(storedMessage(MAIL), { uniqueId, account: ' ünï ' }));
    assert.equal(outcome.kind, 'confirmed');
    const { headers } = sink.requests[0] ?? assert.fail();
    assert.equal(headers['x-evil'], undefined);
    assert.equal(decodeURIComponent(String(headers['x-mailferry-unique-id'])), uniqueId.toWellFormed());
    assert.equal(decodeURIComponent(String(headers['x-mailferry-account'])), ' ünï ');
    await destination.close();
  });

  test('a secret that is no key delivers nothing and does not show', async () => {
    await using sink = await startHttpSink();
    const secret = { reveal: () => Promise.resolve('whsec_tooshort') };
    const outcome = await post(webhookConfig(sink, { secret }));
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    assert.doesNotMatch(outcome.said, /tooshort/);
    assert.equal(sink.requests.length, 0);
  });
});

suite('json', { concurrency: true }, () => {
  test('takes the message apart', async () => {
    const payload = await payloadOf(
      [
        'From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>',
        'To: Team: a@example.net, "B b" <b@example.net>;',
        'Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=',
        'Date: Fri, 02 Jan 2026 03:04:05 +0100',
        'Message-ID: <1@example.org>',
        'X-Folded: one',
        ' two',
        'X-Raw: caf\xc3\xa9',
        'MIME-Version: 1.0',
        'Content-Type: multipart/mixed; boundary=b',
        '',
        '--b',
        'Content-Type: text/plain; charset=iso-8859-1',
        'Content-Transfer-Encoding: quoted-printable',
        '',
        'caf=E9',
        '--b',
        'Content-Type: image/png; name="a.png"',
        'Content-Disposition: attachment; filename="../../a.png"',
        'Content-Transfer-Encoding: base64',
        'Content-ID: <img@x>',
        '',
        'AAECAw==',
        '--b--',
        '',
      ].join('\r\n'),
    );
    assert.deepEqual(payload.from, [{ name: 'Jörg', address: 'joerg@example.org' }]);
    assert.deepEqual(
      payload.to.map(({ address }) => address),
      ['a@example.net', 'b@example.net'],
    );
    assert.equal(payload.subject, 'Grüße');
    assert.equal(payload.messageId, '<1@example.org>');
    assert.equal(payload.date, '2026-01-02T02:04:05.000Z');
    assert.equal(payload.text?.trim(), 'café');
    assert.deepEqual(payload.attachments, [
      {
        filename: '../../a.png',
        contentType: 'image/png',
        disposition: 'attachment',
        contentId: 'img@x',
        size: 4,
        content: 'AAECAw==',
      },
    ]);
    assert.equal(payload.parseError, null);
    const headers = new Map(payload.headers.map(({ name, value }) => [name, value]));
    assert.equal(headers.get('X-Folded'), 'one two');
    assert.equal(headers.get('X-Raw'), 'café');
    assert.equal(headers.get('Subject'), 'Grüße');
    assert.equal(payload.headers[0]?.name, 'From');
  });

  test('delivers what cannot be parsed', async () => {
    const parts = `Content-Type: multipart/mixed; boundary=b\r\n\r\n${'--b\r\n\r\n'.repeat(20_000)}`;
    const lines = `Subject: x\r\n\r\n${'\r\n'.repeat(400_001)}`;
    for (const bomb of [parts, lines]) {
      const payload = await payloadOf(bomb);
      assert.notEqual(payload.parseError, null);
      assert.equal(payload.text, null);
      assert.deepEqual(payload.attachments, []);
    }
    let nest = 'Content-Type: multipart/mixed; boundary=b0\r\n\r\n';
    for (let depth = 1; depth < 900; depth++) {
      nest += `--b${String(depth - 1)}\r\nContent-Type: multipart/mixed; boundary=b${String(depth)}\r\n\r\n`;
    }
    await payloadOf(nest);
    for (const mail of ['', '\r\n', '\0', 'no header at all', Buffer.alloc(5000, 0xff), 'a:\r\n'.repeat(50_000)]) {
      await payloadOf(mail);
    }
  });

  test('does not take apart what is too large for memory', async () => {
    await using sink = await startHttpSink({ secret: SECRET, keep: 0 });
    const destination = openWebhook(webhookConfig(sink, { format: 'json' }), context);
    const outcome = await destination.deliver(deliveryOf(hugeMessage(PARSE_LIMIT + 1)));
    assert.equal(outcome.kind, 'confirmed');
    assert.equal(sink.requests[0]?.signature, 'right');
    await destination.close();
  });

  test('is what the published schema says', () => {
    const published: unknown = JSON.parse(
      readFileSync(new URL('../../config/webhook.schema.json', import.meta.url), 'utf8'),
    );
    assert.deepEqual(published, JSON.parse(JSON.stringify(payloadJsonSchema())));
  });
});

suite('answers', { concurrency: true }, () => {
  const cases: readonly (readonly [status: number, kind: Outcome['kind'], scope: Outcome['scope']])[] = [
    [200, 'confirmed', 'message'],
    [202, 'confirmed', 'message'],
    [204, 'confirmed', 'message'],
    [301, 'deferred', 'destination'],
    [304, 'deferred', 'destination'],
    [400, 'rejected', 'message'],
    [401, 'deferred', 'destination'],
    [403, 'deferred', 'destination'],
    [404, 'deferred', 'destination'],
    [408, 'deferred', 'message'],
    [410, 'deferred', 'destination'],
    [413, 'rejected', 'message'],
    [425, 'deferred', 'message'],
    [429, 'deferred', 'destination'],
    [500, 'deferred', 'message'],
    [503, 'deferred', 'destination'],
    [599, 'deferred', 'message'],
  ];
  for (const [status, kind, scope] of cases) {
    test(`${String(status)} is ${kind}`, async () => {
      await using sink = await startHttpSink();
      sink.when({ action: { status, ...(status === 204 || status === 304 ? {} : { body: 'so it is' }) } });
      const outcome = await post(webhookConfig(sink));
      assert.deepEqual([outcome.kind, outcome.scope, outcome.gone], [kind, scope, status === 410 ? true : undefined]);
      const isRefusal = scope === 'destination' && status < 500 && status !== 429;
      assert.equal(outcome.needsPerson ?? false, isRefusal, 'a person can help');
      assert.match(outcome.said, new RegExp(`^HTTP ${String(status)}`));
    });
  }

  test('redirects are named and not followed', async () => {
    await using sink = await startHttpSink();
    sink.when({ action: { status: 307, headers: { location: 'https://elsewhere.example/token' } } });
    const outcome = await post(webhookConfig(sink));
    assert.match(outcome.said, /redirects to https:\/\/elsewhere\.example; put the final URL/);
    assert.equal(sink.requests.length, 1);
  });

  test('Retry-After is taken in seconds and as a date, and not believed beyond a day', async () => {
    const date = new Date(Math.floor(now.getTime() / 1000) * 1000 + 60_000).toUTCString();
    const waits = [];
    for (const value of ['120', date, 'soon', '-1', '9999999999', 'Thu, 01 Jan 1970 00:00:00 GMT']) {
      await using sink = await startHttpSink();
      sink.when({ action: { status: 503, headers: { 'retry-after': value } } });
      waits.push((await post(webhookConfig(sink))).retryAfter);
    }
    const [seconds, untilDate, ...rest] = waits;
    assert.equal(seconds, 120_000);
    assert.ok(untilDate !== undefined && untilDate > 58_000 && untilDate <= 60_000);
    assert.deepEqual(rest, [undefined, undefined, 86_400_000, 0]);
  });

  test('what a receiver says is cut and made harmless', async () => {
    await using sink = await startHttpSink();
    sink.when({ action: { status: 500, body: `\u001b[2J${'long '.repeat(1000)}` } });
    const { said } = await post(webhookConfig(sink));
    assert.ok(said.length < 320 && said.startsWith('HTTP 500: \\x1b[2Jlong long'));
    await using other = await startHttpSink(); // escapes make it longer than it came
    other.when({ action: { status: 500, body: '\u202e'.repeat(290) } });
    assert.match((await post(webhookConfig(other))).said, /^HTTP 500: \\u\{202e\}.{1,300}$/);
  });

  for (const action of ['endlessAnswer', 'stallInAnswer'] as const) {
    test(`${action} confirms, and holds up nobody for long`, async () => {
      await using sink = await startHttpSink();
      sink.when({ action });
      assert.equal((await post(webhookConfig(sink))).kind, 'confirmed');
      await until(() => sink.open === 0);
    });
  }
});

suite('cuts and silence', { concurrency: true }, () => {
  const long = `Subject: x\r\n\r\n${'line\r\n'.repeat(2_000_000)}`;

  test('before the whole message was sent are deferred', async () => {
    for (const action of ['dropAtHeader', 'stallAtHeader', 'answerAtHeader'] as const) {
      await using sink = await startHttpSink();
      sink.when({ action });
      const destination = openWebhook(webhookConfig(sink), context);
      const stop = new AbortController();
      const delivering = destination.deliver(deliveryOf(storedMessage(long), { signal: stop.signal }));
      await until(() => sink.connections === 1);
      if (action === 'stallAtHeader') stop.abort(new Error('not finished in time'));
      const outcome = await delivering;
      assert.equal(outcome.kind, 'deferred', action);
      sink.dropAll();
      await destination.close();
    }
  });

  test('after it are in doubt', async () => {
    for (const action of ['dropAfterBody', 'stallAfterBody'] as const) {
      await using sink = await startHttpSink();
      sink.when({ action });
      const destination = openWebhook(webhookConfig(sink), context);
      const stop = new AbortController();
      const delivering = destination.deliver(deliveryOf(storedMessage(MAIL), { signal: stop.signal }));
      await until(() => sink.requests.length === 1);
      if (action === 'stallAfterBody') stop.abort(new Error('not finished in time'));
      const outcome = await delivering;
      assert.deepEqual([outcome.kind, outcome.scope], ['inDoubt', 'message']);
      assert.match(outcome.said, /after the whole message was sent/);
      await destination.close();
    }
  });

  test('of a small message, which goes out in one piece, are in doubt from its header on', async () => {
    await using sink = await startHttpSink();
    sink.when({ action: 'dropAtHeader' });
    assert.equal((await post(webhookConfig(sink))).kind, 'inDoubt');
  });

  test('of nobody there is deferred, and says so', async () => {
    const sink = await startHttpSink();
    const config = webhookConfig(sink);
    await sink.close();
    const outcome = await post(config);
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    assert.match(outcome.said, /ECONNREFUSED; Nothing listens there/);
    await assert.rejects(openWebhook(config, context).check(new AbortController().signal), { code: 'webhook.connect' });
  });

  test('of a short stored copy is never a whole request', async () => {
    await using sink = await startHttpSink();
    const destination = openWebhook(webhookConfig(sink, { secret: undefined }), context);
    const message = storedMessage(MAIL, { streamed: true });
    const outcome = await destination.deliver(deliveryOf({ ...message, size: message.size + 1 }));
    assert.equal(outcome.kind, 'deferred');
    assert.match(outcome.said, /stored copy has/);
    assert.deepEqual(sink.requests, []);
    await destination.close();
  });
});

suite('connections', { concurrency: true }, () => {
  test('are kept, and at most as many as allowed', async () => {
    await using sink = await startHttpSink();
    const destination = openWebhook(webhookConfig(sink), context);
    for (let count = 0; count < 5; count++) await destination.deliver(deliveryOf(storedMessage(MAIL)));
    await Promise.all(Array.from({ length: 20 }, () => destination.deliver(deliveryOf(storedMessage(MAIL)))));
    assert.equal(sink.requests.length, 25);
    assert.ok(sink.connections <= 3);
    await destination.close();
  });

  const connect = async (
    sink: HttpSink,
    tls: Partial<typeof TLS>,
    changes: Partial<WebhookConfig> = {},
  ): Promise<string> => {
    const { kind, said } = await post(webhookConfig(sink, { tls: { ...TLS, ...tls }, ...changes }));
    return `${kind}: ${said}`;
  };

  test('are verified', async () => {
    await using sink = await startHttpSink({ tls: 'server' });
    assert.match(await connect(sink, {}), /^deferred: .*Name the authority .* as caFile/);
    assert.match(await connect(sink, { caFile } as object), /^confirmed/);
    await using wrong = await startHttpSink({ tls: 'wrong-name' });
    assert.match(
      await connect(wrong, { caFile } as object),
      /^deferred: .*host name that the certificate was made for/,
    );
    assert.match(await connect(wrong, { caFile, serverName: 'wrong.example' } as object), /^confirmed/);
    await using expired = await startHttpSink({ tls: 'expired' });
    assert.match(await connect(expired, { caFile } as object), /^deferred: .*must be renewed/);
    const pin = { fingerprint: fingerprintOfCertificate('expired') } as object;
    assert.match(await connect(expired, pin), /^confirmed/);
    assert.match(await connect(sink, pin), /^deferred: .*not the one in the config/);
    assert.equal(expired.requests.length, 1);
    assert.equal(sink.requests.length, 1);
  });

  test('show the client certificate', async () => {
    await using sink = await startHttpSink({ tls: 'server', clientCertificate: true });
    // in TLS 1.3 the server says no when the client has already begun to send
    assert.doesNotMatch(await connect(sink, { caFile } as object), /^confirmed/);
    assert.match(await connect(sink, { caFile, ...certificateFiles('client') } as object), /^confirmed/);
    assert.equal(sink.requests[0]?.client, 'CN=client');
  });

  test('do not go where they must not', async () => {
    await using sink = await startHttpSink();
    const refused = /^deferred: .*is not an address that a webhook may go to/;
    assert.match(await connect(sink, {}, { allowPrivate: false }), refused);
    for (const url of [`http://localhost:${String(sink.port)}/`, `http://[::ffff:127.0.0.1]:${String(sink.port)}/`]) {
      assert.match(await connect(sink, {}, { allowPrivate: false, url }), refused);
    }
    for (const url of ['http://169.254.169.254/latest/', 'http://[fe80::1]/', 'http://[::ffff:169.254.169.254]/']) {
      assert.match(await connect(sink, {}, { allowPrivate: true, url }), refused);
    }
    assert.equal(sink.connections, 0);
  });
});
