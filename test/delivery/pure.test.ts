import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { isAddress, originalReversePath, withAsciiDomain } from '../../src/delivery/address.ts';
import { classOfAddress, mayConnect } from '../../src/delivery/egress.ts';
import { stuffed, Stuffer } from '../../src/delivery/dot-stuffing.ts';
import { LineEndNormalizer, normalizeLineEnds, Surveyor, surveyOf } from '../../src/mail/line-ends.ts';
import { parseExtensions, sizeLimit } from '../../src/delivery/smtp-extensions.ts';
import { wordsOf } from '../../src/delivery/smtp-outcome.ts';
import { signature, stampOf, webhookKey } from '../../src/delivery/standard-webhooks.ts';
import { dateTime, receivedField } from '../../src/delivery/trace.ts';
import { headerValue } from '../../src/delivery/webhook-metadata.ts';
import { Failure } from '../../src/failure.ts';
import { FieldNames, headerFields } from '../../src/mail/header.ts';

suite('the trace field', () => {
  const details = {
    hostName: 'ferry.test',
    account: 'old-isp',
    id: 'key',
    recipients: ['me@example.net'],
    time: new Date('2026-01-02T03:04:05Z'),
  };

  test('says who, from where, for whom, when', () => {
    assert.equal(
      receivedField(details).toString(),
      'Received: by ferry.test (mailferry) with POP3 id key\r\n\t(account old-isp)\r\n\tfor <me@example.net>; Fri, 02 Jan 2026 03:04:05 +0000\r\n',
    );
  });

  test('names no recipient among several', () => {
    assert.doesNotMatch(receivedField({ ...details, recipients: ['a@b.c', 'd@e.f'] }).toString(), /for|@/);
  });

  test('is one field whatever stands in it', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.string({ unit: 'binary' }),
        fc.string(),
        (account, hostName, to) => {
          const field = receivedField({ ...details, account, hostName, recipients: [to] }).toString('latin1');
          assert.match(field, /^Received: by [\x21-\x7e]+ \(mailferry\) [\x20-\x7e]+\r\n(\t[\x20-\x7e]+\r\n){1,2}$/);
          assert.equal(headerFields(Buffer.from(`${field}\r\n`)).length, 1);
          for (const line of field.split('\r\n')) assert.ok(line.length <= 998);
        },
      ),
    );
  });

  test('has dates of RFC 5322', () => {
    assert.equal(dateTime(new Date('2026-11-09T23:00:01Z')), 'Mon, 09 Nov 2026 23:00:01 +0000');
  });
});

suite('header fields', () => {
  test('that are asked for by name are those that all together show', () => {
    const piece = fc.constantFrom(
      'Received',
      'subject',
      'From',
      ':',
      ' ',
      '\t',
      '\r\n',
      '\n',
      '\r\n ',
      '\n\t',
      'a b',
      '\r',
    );
    const names = ['received', 'subject'];
    const wanted = new FieldNames(names);
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const header = Buffer.from(pieces.join(''), 'latin1');
        const all = headerFields(header).filter(({ name }) => names.includes(name.toLowerCase()));
        assert.deepEqual(headerFields(header, wanted), all);
      }),
      { numRuns: 2000 },
    );
  });
});

suite('line ends', () => {
  const octet = fc.constantFrom(0x0d, 0x0a, 0x2e, 0x61, 0xff);

  test('are the same whatever the chunks, and surveyed right', () => {
    fc.assert(
      fc.property(fc.array(fc.array(octet)), (parts) => {
        const chunks = parts.map((part) => Buffer.from(part));
        const normalizer = new LineEndNormalizer();
        const surveyor = new Surveyor();
        const pieces = chunks.map((chunk) => {
          surveyor.add(chunk);
          return normalizer.push(chunk);
        });
        const whole = Buffer.concat([...pieces, normalizer.end()]);
        const plain = Buffer.concat(chunks);
        const text = plain.toString('latin1').replace(/\r\n|\r|\n/g, '\r\n');
        const expected = text.endsWith('\r\n') ? text : `${text}\r\n`;
        assert.equal(whole.toString('latin1'), expected);
        assert.deepEqual(normalizeLineEnds(plain), whole);
        const lone = /\r(?!\n)|(?<!\r)\n/.test(plain.toString('latin1'));
        assert.deepEqual(surveyor.result(), { size: whole.length, eightBit: plain.includes(0xff), lone });
      }),
    );
  });

  test('that are right cost nothing', () => {
    const chunk = Buffer.from('a\r\n.\r\n');
    assert.equal(new LineEndNormalizer().push(chunk), chunk);
    const plain = Buffer.from('a\r\nb.\r\n');
    assert.equal(new Stuffer().push(plain), plain);
  });

  test('behind DATA: a receiver that takes the dots away has the message, however it was cut', () => {
    fc.assert(
      fc.property(fc.array(fc.array(octet)), (parts) => {
        const chunks = parts.map((part) => Buffer.from(part));
        const stuffer = new Stuffer();
        // A piece is good until the next one.
        const pieces = chunks.map((chunk) => Buffer.from(stuffer.push(chunk)));
        const wire = Buffer.concat([...pieces, stuffer.end()]).toString('latin1');
        const { data, size, eightBit, lone } = stuffed(chunks);
        if (!lone) {
          const quick = new Stuffer(false);
          const quickly = [...chunks.map((chunk) => Buffer.from(quick.push(chunk))), quick.end()];
          assert.equal(Buffer.concat(quickly).toString('latin1'), wire);
        }
        assert.equal(data.toString('latin1'), wire);
        const plain = Buffer.concat(chunks);
        const normal = normalizeLineEnds(plain).toString('latin1');
        assert.equal(wire.slice(-5), '\r\n.\r\n');
        const lines = wire.slice(0, -3).split('\r\n').slice(0, -1);
        assert.ok(lines.every((line) => line !== '.' && !/[\r\n]/.test(line)));
        assert.equal(lines.map((line) => `${line.replace(/^\./, '')}\r\n`).join(''), normal);
        assert.deepEqual({ size, eightBit }, { size: normal.length, eightBit: plain.includes(0xff) });
        assert.equal(lone, surveyOf(...chunks).lone);
      }),
    );
  });
});

suite('addresses', () => {
  const good = ['a@b', 'a.b+c@d.example', '"a b"@c.example', 'a@[127.0.0.1]', 'a@[IPv6:::1]', 'jörg@bücher.example'];
  const bad = [
    '',
    'a',
    '@b',
    'a@',
    'a b@c',
    'a@b c',
    'a@b>c',
    '<a@b>',
    'a@b\r\nRCPT',
    'a\0@b',
    'a@b..c',
    '"a@b',
    'a@-',
    'a,b@c',
  ];

  test('are told from what is none', () => {
    assert.deepEqual([...good, ...bad].filter(isAddress), good);
    assert.equal(isAddress(`${'a'.repeat(251)}@b.c`), false);
  });

  test('never break out of a command', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const found = originalReversePath([{ name: 'Return-Path', value: text }]);
        assert.doesNotMatch(found ?? '', /[\r\n<>\0]/);
      }),
    );
  });

  test('have an ASCII domain where they can', () => {
    assert.equal(withAsciiDomain('jörg@bücher.example'), 'jörg@xn--bcher-kva.example');
    assert.equal(withAsciiDomain(''), '');
  });
});

suite('egress', () => {
  const cases: Record<ReturnType<typeof classOfAddress>, readonly string[]> = {
    public: [
      '8.8.8.8',
      '1.1.1.1',
      '172.32.0.1',
      '100.128.0.1',
      '2606:4700::1111',
      '[2606:4700::1111]',
      '::ffff:8.8.8.8',
    ],
    private: [
      '127.0.0.1',
      '127.255.255.254',
      '10.1.2.3',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '100.64.0.1',
      '0.0.0.0',
      '224.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      '::7f00:1',
      '0:0:0:0:0:0:0:1',
      'fc00::1',
      'fd12:3456::1',
      'ff02::1',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '::127.0.0.1',
      '64:ff9b::10.0.0.1',
      '2002:7f00:1::1',
      '2002:a00:1::',
    ],
    forbidden: [
      '169.254.169.254',
      '169.254.0.1',
      '::ffff:169.254.169.254',
      '::ffff:a9fe:a9fe',
      '64:ff9b::a9fe:a9fe',
      '2002:a9fe:a9fe::',
      'fe80::1',
      'fe80::1%eth0',
      'febf::1',
      'fd00:ec2::254',
      '100.100.100.200',
      '168.63.129.16',
      '192.0.0.192',
      '',
      'localhost',
      '1.2.3',
    ],
  };
  for (const [kind, addresses] of Object.entries(cases)) {
    test(`${kind} addresses`, () => {
      for (const address of addresses) {
        assert.equal(classOfAddress(address), kind, address);
        assert.equal(mayConnect(address, true), kind !== 'forbidden', address);
        assert.equal(mayConnect(address, false), kind === 'public', address);
      }
    });
  }
});

suite('replies', () => {
  test('are one line of evidence', () => {
    assert.equal(
      wordsOf({ code: 550, text: '550-5.1.1 no such user\n550-5.1.1 here\n550 5.1.1 at all' }),
      '550 5.1.1 no such user here at all',
    );
    assert.equal(wordsOf({ code: 250, text: '250 2.0.0 Ok: queued as 4F1' }), '250 2.0.0 Ok: queued as 4F1');
    assert.equal(wordsOf({ code: 554, text: '554 \u001b[2Jno' }), '554 \\x1b[2Jno');
  });

  test('to EHLO are read in any case of letters', () => {
    const extensions = parseExtensions('250-mx\r\n250-size 1000\n250-AUTH PLAIN\n250-AUTH=LOGIN\n250 8bitmime');
    assert.equal(sizeLimit(extensions), 1000);
    assert.deepEqual(extensions.get('AUTH'), ['PLAIN', 'LOGIN']);
    assert.ok(extensions.has('8BITMIME'));
    for (const value of ['SIZE', 'SIZE 0', 'SIZE x', 'X'])
      assert.equal(sizeLimit(parseExtensions(`250-mx\n250 ${value}`)), undefined);
  });
});

suite('webhook headers', () => {
  test('can be read back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const value = headerValue(text);
        assert.match(value, /^([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?$/);
        assert.equal(decodeURIComponent(value), text.toWellFormed());
      }),
    );
  });

  test('carry one signature for each key', async () => {
    // the example of the specification
    const key = webhookKey('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw');
    const body = '{"test": 2432232314}';
    async function* open(): AsyncGenerator<Buffer> {
      yield await Promise.resolve(Buffer.from(body));
    }
    const time = new Date(1614265330_000);
    const stamp = stampOf('msg_p5jXN8AQM9LWM0D4loKWxJek', time);
    const [first, second, third] = (await signature([key, Buffer.alloc(32)], stamp, open())).split(' ');
    assert.equal(first, 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
    assert.match(second ?? '', /^v1,/);
    assert.notEqual(first, second);
    assert.equal(third, undefined);
  });

  test('need a key that is one', () => {
    for (const secret of ['', 'whsec_', 'whsec_short', 'whsec_not base64 at all, really', 'x'.repeat(15)]) {
      assert.throws(() => webhookKey(secret), Failure, secret);
    }
  });
});

test('a hostile Return-Path costs no more than its length', () => {
  for (const value of [
    `<${' '.repeat(200_000)}x`,
    ' '.repeat(200_000),
    `<${'a'.repeat(200_000)}>`,
    '<'.repeat(200_000),
  ])
    assert.equal(originalReversePath([{ name: 'Return-Path', value }]) ?? '', '');
  const path = originalReversePath([{ name: 'Return-Path', value: '  < jane@example.org >  (x)' }]);
  assert.equal(path, 'jane@example.org');
});
