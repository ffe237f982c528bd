import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import type { SmtpConfig } from '../../src/config/types.ts';
import { attachFrame } from '../../src/delivery/attach.ts';
import type { Destination, Outcome } from '../../src/delivery/destination.ts';
import { internalDate } from '../../src/delivery/internal-date.ts';
import { loopReason } from '../../src/delivery/loop.ts';
import { recipientsOf } from '../../src/delivery/multidrop.ts';
import { openSmtp } from '../../src/delivery/smtp.ts';
import { srsForward, srsReverse } from '../../src/delivery/srs.ts';
import { receivedField } from '../../src/delivery/trace.ts';
import { headerFields } from '../../src/mail/header.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';

assertNoLeaks();

const MAIL = 'Return-Path: <jane@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n';
const now = new Date('2026-01-02T03:04:05Z');
const context = { hostName: 'ferry.test', now: () => now };

function open(place: { host: string; port: number }, changes: Partial<SmtpConfig> = {}): Destination {
  const config: SmtpConfig = {
    name: 'me',
    type: 'smtp',
    concurrency: 3,
    timeout: 5000,
    host: place.host,
    port: place.port,
    security: 'none',
    tls: { caFile: undefined, fingerprint: undefined, serverName: undefined, certFile: undefined, keyFile: undefined },
    auth: undefined,
    to: ['me@example.net'],
    from: { kind: 'original' },
    trace: true,
    helo: undefined,
    ...changes,
  };
  return openSmtp(config, context);
}

async function deliverOnce(destination: Destination, mail = MAIL): Promise<Outcome> {
  try {
    return await destination.deliver(deliveryOf(storedMessage(mail)));
  } finally {
    await destination.close();
  }
}

suite('further hosts', { concurrency: true }, () => {
  test('are asked in their order when the first is gone or will not talk', async () => {
    const gone = await startSmtpSink();
    const place = { host: gone.host, port: gone.port };
    await gone.close();
    await using busy = await startSmtpWire({ greeting: '421 too busy' });
    await using last = await startSmtpSink();
    const outcome = await deliverOnce(open(place, { fallbackHosts: [busy, last] }));
    assert.equal(outcome.kind, 'confirmed', outcome.said);
    assert.equal(busy.connections, 1);
    assert.equal(last.messages.length, 1);
  });

  test('are not asked for a second opinion on a message, nor on a password', async () => {
    await using first = await startSmtpSink();
    await using second = await startSmtpSink();
    first.when({ stage: 'rcpt', action: { reply: [451, '4.7.1 greylisted'] } });
    assert.equal((await deliverOnce(open(first, { fallbackHosts: [second] }))).kind, 'deferred');
    const auth = { user: 'jane', password: { reveal: () => Promise.resolve('wrong') } };
    await using locked = await startSmtpSink({ auth: { user: 'jane', password: 'right' } });
    assert.equal((await deliverOnce(open(locked, { auth, fallbackHosts: [second] }))).kind, 'deferred');
    assert.equal(second.connections, 0);
  });

  test('that all fail are all named', async () => {
    await using busy = await startSmtpWire({ greeting: '421 too busy' });
    await using rude = await startSmtpWire({ greeting: '554 go away' });
    const outcome = await deliverOnce(open(busy, { fallbackHosts: [rude] }));
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    assert.match(outcome.said, /too busy.*go away/);
  });
});

suite('loops', { concurrency: true }, () => {
  const self = { hostName: 'ferry.test', account: 'old-isp' };
  const own = receivedField({ ...self, id: 'key', recipients: ['me@example.net'], time: now }).toString();

  test('are known by our own trace field', async () => {
    assert.match(loopReason(headerFields(Buffer.from(`${own}\r\n`)), self) ?? '', /forwarded by this host before/);
    assert.equal(loopReason(headerFields(Buffer.from(`${own}\r\n`)), { ...self, account: 'other' }), undefined);
    assert.equal(loopReason(headerFields(Buffer.from(`${own}\r\n`)), { ...self, hostName: 'other' }), undefined);
    await using sink = await startSmtpSink();
    const outcome = await deliverOnce(open(sink), `X-First: 1\r\n${own}${MAIL}`);
    assert.deepEqual([outcome.kind, outcome.scope], ['rejected', 'message']);
    assert.match(outcome.said, /^mail loop/);
    assert.equal(outcome.recipients?.['me@example.net']?.kind, 'rejected');
    assert.equal(sink.connections, 0);
  });

  test('are known by their length', () => {
    const header = (count: number): ReturnType<typeof headerFields> =>
      headerFields(Buffer.from(`${'Received: from a by b; today\r\n'.repeat(count)}\r\n`));
    assert.equal(loopReason(header(100), self), undefined);
    assert.match(loopReason(header(101), self) ?? '', /101 Received fields/);
    assert.match(loopReason(header(6), self, 5) ?? '', /at most 5/);
  });
});

suite('multidrop', () => {
  const config = { headers: ['X-Envelope-To', 'Delivered-To'], removePrefix: 'box-', domains: ['example.net'] };
  const cases: readonly (readonly [name: string, header: string, expected: readonly string[]])[] = [
    [
      'takes the first field configured',
      'Delivered-To: b@example.net\r\nX-Envelope-To: <a@example.net>',
      ['a@example.net'],
    ],
    ['takes the topmost of a name', 'Delivered-To: a@example.net\r\nDelivered-To: b@example.net', ['a@example.net']],
    [
      'takes all of a list, each once',
      'X-Envelope-To: a@example.net, <b@Example.NET>, A@example.net',
      ['A@example.net', 'b@Example.NET'],
    ],
    ['removes the prefix', 'Delivered-To: box-jane@example.net', ['jane@example.net']],
    ['leaves strangers out', 'Delivered-To: x@evil.example\r\nDelivered-To: a@example.net', ['a@example.net']],
    ['does not read To and Cc', 'To: a@example.net\r\nCc: b@example.net', []],
    [
      'takes no nonsense',
      'X-Envelope-To: , <>, a b@example.net, "x y"@example.net\r\nDelivered-To:',
      ['b@example.net', '"x y"@example.net'],
    ],
  ];
  for (const [name, header, expected] of cases) {
    test(name, () => {
      const found = recipientsOf(headerFields(Buffer.from(`${header}\r\n\r\n`)), config);
      assert.deepEqual(found, expected);
    });
  }

  test('reads the for clause of Received if asked to', () => {
    const fields = headerFields(
      Buffer.from('Received: from a by b with SMTP\r\n\tfor <jane@example.net>; today\r\n\r\n'),
    );
    assert.deepEqual(recipientsOf(fields, { ...config, headers: ['Received'] }), ['jane@example.net']);
  });

  test('delivers to those found, else to the fixed recipients', async () => {
    await using sink = await startSmtpSink();
    const destination = open(sink, { multidrop: config });
    await destination.deliver(deliveryOf(storedMessage(`Delivered-To: box-jane@example.net\r\n${MAIL}`)));
    await destination.deliver(deliveryOf(storedMessage(MAIL)));
    assert.deepEqual(
      sink.messages.map(({ to }) => to),
      [['jane@example.net'], ['me@example.net']],
    );
    await destination.close();
    const nobody = await deliverOnce(open(sink, { multidrop: config, to: [] }));
    assert.deepEqual([nobody.kind, nobody.said], ['rejected', 'no header field names a recipient']);
  });
});

suite('SRS', () => {
  const keys = { domain: 'ferry.test', secrets: ['new', 'old'] };
  const later = (days: number): Date => new Date(now.getTime() + days * 86_400_000);

  test('there and back', () => {
    const rewritten = srsForward('jane@example.org', keys, now);
    assert.match(rewritten, /^SRS0=[^=]{4}=[A-Z2-7]{2}=example\.org=jane@ferry\.test$/);
    assert.deepEqual(srsReverse(rewritten, keys, later(20)), { kind: 'address', address: 'jane@example.org' });
    assert.deepEqual(srsReverse(rewritten.toLowerCase(), keys, now), { kind: 'address', address: 'jane@example.org' });
    assert.deepEqual(srsReverse(rewritten, keys, later(22)), { kind: 'refused', reason: 'too old' });
  });

  test('by way of a second and a third forwarder goes back to the first', () => {
    const first = srsForward('jane@example.org', { ...keys, domain: 'first.test' }, now);
    const second = srsForward(first, { ...keys, domain: 'second.test' }, now);
    assert.match(second, /^SRS1=[^=]{4}=first\.test==.*@second\.test$/);
    const third = srsForward(second, keys, now);
    assert.match(third, /^SRS1=[^=]{4}=first\.test==.*@ferry\.test$/);
    assert.deepEqual(srsReverse(third, keys, now), { kind: 'address', address: first });
  });

  test('knows the old secret, and no forgery', () => {
    const old = srsForward('jane@example.org', { ...keys, secrets: ['old'] }, now);
    assert.equal(srsReverse(old, keys, now).kind, 'address');
    assert.equal(srsReverse(old, { ...keys, secrets: ['new'] }, now).kind, 'refused');
    for (const forged of [
      old.replace('jane', 'joan'),
      old.replace('example.org', 'evil.example'),
      'jane@ferry.test',
      'SRS0=x@ferry.test',
      '',
    ]) {
      assert.equal(srsReverse(forged, keys, now).kind, 'refused', forged);
    }
    assert.equal(srsReverse(old.replace('ferry.test', 'elsewhere.test'), keys, now).kind, 'refused');
  });

  test('leaves bounces and our own addresses alone', () => {
    assert.equal(srsForward('', keys, now), '');
    assert.equal(srsForward('me@FERRY.test', keys, now), 'me@FERRY.test');
  });

  test('goes out as reverse-path', async () => {
    await using sink = await startSmtpSink();
    const secrets = [{ reveal: () => Promise.resolve('new') }];
    await deliverOnce(open(sink, { from: { kind: 'srs', domain: 'ferry.test', secrets } }));
    assert.equal(sink.messages[0]?.from, srsForward('jane@example.org', keys, now));
  });
});

suite('attached', () => {
  test('the original is inside, octet for octet', async () => {
    await using sink = await startSmtpSink({ keep: true });
    const mail = `${MAIL.replace('hello', 'h\xf6llo')}--boundary?\r\n`;
    const outcome = await deliverOnce(open(sink, { attachFrom: 'ferry@example.net' }), mail);
    assert.equal(outcome.kind, 'confirmed');
    const [message] = sink.messages;
    assert.equal(message?.from, 'ferry@example.net');
    assert.equal(message.declaredSize, message.size);
    assert.equal(message.bodyType, '8bitmime');
    const text = message.bytes?.toString('latin1') ?? '';
    const boundary = `=_${createHash('sha256').update(mail, 'latin1').digest('hex')}`;
    const part = text.split(`\r\n--${boundary}`)[2] ?? '';
    assert.equal(part.slice(part.indexOf('\r\n\r\n') + 4), mail);
    assert.match(
      text,
      /^Received: .*\r\n.*\r\n.*\r\nFrom: ferry@example\.net\r\nTo: me@example\.net\r\nSubject: Mail from old-isp\r\n/,
    );
  });

  test('says the subject where it can', () => {
    const frame = (subject: string): string =>
      attachFrame({
        from: 'f@example.net',
        to: ['a@example.net'],
        account: 'x\r\nBcc: evil',
        id: 'key',
        hostName: 'ferry.test',
        header: Buffer.from(`Subject: ${subject}\r\n\r\n`),
        sha256: 'ab',
        eightBit: false,
        time: now,
      }).top.toString();
    assert.match(frame('=?utf-8?q?x?='), /\r\nSubject: Fwd: =\?utf-8\?q\?x\?=\r\n/);
    assert.doesNotMatch(frame(''), /\r\nBcc:/);
  });
});

test('REQUIRETLS is asked for; a server without it is no server for us', async () => {
  await using wire = await startSmtpWire({ extensions: ['PIPELINING'] });
  const outcome = await deliverOnce(open(wire, { requireTls: true }));
  assert.deepEqual([outcome.kind, outcome.scope, outcome.needsPerson], ['deferred', 'destination', true]);
  assert.match(outcome.said, /^the server cannot promise TLS on the whole way/);
  await using other = await startSmtpWire({ extensions: ['PIPELINING', 'REQUIRETLS'] });
  const places = { fallbackHosts: [{ host: other.host, port: other.port }] };
  assert.equal((await deliverOnce(open(wire, { requireTls: true, ...places }))).kind, 'confirmed');
  assert.ok(other.commands.some((line) => /^MAIL FROM:<[^>]*>.* REQUIRETLS\b/.test(line)));
});

test('the time of arrival is that of the last server, if it can be believed', () => {
  const dateOf = (header: string): string | undefined =>
    internalDate(headerFields(Buffer.from(`${header}\r\n\r\n`)), now)?.toISOString();
  const date = 'Date: Wed, 31 Dec 2025 10:00:00 +0000';
  assert.equal(dateOf(`Received: by a; Thu, 1 Jan 2026 10:00:00 +0100 (CET)\r\n${date}`), '2026-01-01T09:00:00.000Z');
  assert.equal(dateOf(`Received: by a; nonsense\r\n${date}`), '2025-12-31T10:00:00.000Z');
  assert.equal(dateOf(`Received: by a; Thu, 1 Jan 2099 10:00:00 +0000\r\n${date}`), '2025-12-31T10:00:00.000Z');
  assert.equal(dateOf('Subject: x'), undefined);
});
