import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import type { SmtpConfig } from '../../src/config/types.ts';
import type { Outcome } from '../../src/delivery/destination.ts';
import { normalizeLineEnds } from '../../src/mail/line-ends.ts';
import { openSmtp } from '../../src/delivery/smtp.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { smtpConfig } from '../support/smtp-config.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const MAIL =
  'Return-Path: <jane@example.org>\r\nFrom: jane@example.org\r\nSubject: hello\r\n\r\nHello.\r\n.\r\n..\r\nBye.\r\n';
const context = { hostName: 'ferry.test', now: () => new Date('2026-01-02T03:04:05Z') };

/** Delivers one message over a destination of its own. */
async function deliverOnce(config: SmtpConfig, mail: Buffer | string = MAIL, streamed = false): Promise<Outcome> {
  const destination = openSmtp(config, context);
  try {
    return await destination.deliver(deliveryOf(storedMessage(mail, { streamed })));
  } finally {
    await destination.close();
  }
}

suite('what arrives', { concurrency: true }, () => {
  for (const streamed of [false, true]) {
    test(`is the message, octet for octet, below one trace field (${streamed ? 'stream' : 'memory'})`, async () => {
      await using sink = await startSmtpSink();
      const outcome = await deliverOnce(smtpConfig(sink), MAIL, streamed);
      assert.equal(outcome.kind, 'confirmed');
      assert.match(outcome.said, /^250 /);
      assert.deepEqual(outcome.recipients?.['me@example.net'], { kind: 'confirmed', said: outcome.said });
      const [message] = sink.messages;
      assert.equal(message?.sha256BelowTrace, createHash('sha256').update(MAIL).digest('hex'));
      assert.match(
        message.head.toString(),
        /^Received: by ferry.test \(mailferry\) with POP3 id key_0123456789-abcdef\r\n/,
      );
      assert.equal(message.from, 'ferry@example.net');
      assert.deepEqual(message.to, ['me@example.net']);
      assert.equal(message.declaredSize, message.size);
      assert.equal(message.bodyType, '7bit');
    });
  }

  test('has no trace field if the config says so', async () => {
    await using sink = await startSmtpSink();
    await deliverOnce(smtpConfig(sink, { trace: false }));
    assert.equal(sink.messages[0]?.sha256, createHash('sha256').update(MAIL).digest('hex'));
  });

  test('is declared 8BITMIME if it has 8-bit octets and the server knows it', async () => {
    const mail = Buffer.from('Subject: x\r\n\r\ncaf\xe9\r\n', 'latin1');
    await using sink = await startSmtpSink();
    await deliverOnce(smtpConfig(sink), mail);
    assert.equal(sink.messages[0]?.bodyType, '8bitmime');
    await using old = await startSmtpSink({ without: ['8BITMIME'] });
    await deliverOnce(smtpConfig(old), mail);
    assert.equal(old.messages[0]?.bodyType, '7bit');
    assert.equal(old.messages[0]?.sha256BelowTrace, createHash('sha256').update(mail).digest('hex'));
  });

  test('may be nothing at all', async () => {
    await using sink = await startSmtpSink({ keep: true });
    assert.equal((await deliverOnce(smtpConfig(sink, { trace: false }), '')).kind, 'confirmed');
    assert.equal(sink.messages[0]?.bytes?.toString(), '\r\n');
  });
});

suite('the reverse-path', { concurrency: true }, () => {
  const original = { from: { kind: 'original' } } as const;
  const cases: readonly (readonly [name: string, field: string, expected: string])[] = [
    ['is the original one', 'Return-Path: <jane@example.org>\r\n', 'jane@example.org'],
    ['of a bounce stays null', 'Return-Path: <>\r\n', ''],
    ['is null where there is none', '', ''],
    ['is null where it is no address', 'Return-Path: <a b@c> SIZE=1\r\n', ''],
    ['loses its source route', 'Return-Path: <@relay.example:jane@example.org>\r\n', 'jane@example.org'],
    ['has its domain in ASCII', 'Return-Path: <jane@b\xc3\xbccher.example>\r\n', 'jane@bücher.example'], // as the sink shows it
  ];
  for (const [name, field, expected] of cases) {
    test(name, async () => {
      await using sink = await startSmtpSink();
      assert.equal(
        (await deliverOnce(smtpConfig(sink, original), `${field}Subject: x\r\n\r\nx\r\n`)).kind,
        'confirmed',
      );
      assert.equal(sink.messages[0]?.from, expected);
      assert.equal(sink.messages[0]?.smtpUtf8, false);
    });
  }

  test('that needs SMTPUTF8 asks for it, or is refused in plain words', async () => {
    const mail = Buffer.from('Return-Path: <jörg@example.org>\r\n\r\nx\r\n');
    await using sink = await startSmtpSink();
    assert.equal((await deliverOnce(smtpConfig(sink, original), mail)).kind, 'confirmed');
    assert.equal(sink.messages[0]?.smtpUtf8, true);
    assert.equal(sink.messages[0]?.from, 'jörg@example.org');
    await using old = await startSmtpSink({ without: ['SMTPUTF8'] });
    const outcome = await deliverOnce(smtpConfig(old, original), mail);
    assert.equal(outcome.kind, 'rejected');
    assert.match(outcome.said, /jörg@example.org needs SMTPUTF8/);
    assert.equal(old.messages.length, 0);
  });
});

suite('recipients', { concurrency: true }, () => {
  const to = ['a@example.net', 'b@example.net', 'c@example.net'];

  test('have an outcome each', async () => {
    await using sink = await startSmtpSink();
    sink.when({ stage: 'rcpt', if: (it) => it.address.startsWith('b'), action: { reply: [550, '5.1.1 unknown'] } });
    sink.when({ stage: 'rcpt', if: (it) => it.address.startsWith('c'), action: { reply: [452, '4.2.2 full'] } });
    const outcome = await deliverOnce(smtpConfig(sink, { to }));
    assert.equal(outcome.kind, 'deferred');
    assert.deepEqual(
      Object.entries(outcome.recipients ?? {}).map(([address, { kind }]) => `${address} ${kind}`),
      ['a@example.net confirmed', 'b@example.net rejected', 'c@example.net deferred'],
    );
    assert.match(outcome.recipients?.['b@example.net']?.said ?? '', /^550 5\.1\.1 unknown/);
    assert.deepEqual(sink.messages[0]?.to, ['a@example.net']);
  });

  test('keep their own refusal when the message is refused later', async () => {
    for (const action of ['drop', { reply: [552, '5.2.3 too big'] }] as const) {
      await using sink = await startSmtpSink();
      sink.when({ stage: 'rcpt', if: (it) => it.address.startsWith('b'), action: { reply: [451, '4.7.1 later'] } });
      sink.when({ stage: 'rcpt', if: (it) => it.address.startsWith('c'), action: { reply: [550, '5.1.1 unknown'] } });
      sink.when({ stage: 'end', action });
      const outcome = await deliverOnce(smtpConfig(sink, { to }));
      const kinds = to.map((address) => outcome.recipients?.[address]?.kind);
      assert.deepEqual(kinds, [action === 'drop' ? 'inDoubt' : 'rejected', 'deferred', 'rejected']);
      assert.equal(outcome.kind, action === 'drop' ? 'inDoubt' : 'deferred');
    }
  });

  test('that are settled are not asked again', async () => {
    await using sink = await startSmtpSink();
    const destination = openSmtp(smtpConfig(sink, { to }), context);
    const settled = new Set(['a@example.net', 'b@example.net']);
    const outcome = await destination.deliver(deliveryOf(storedMessage(MAIL), { settled }));
    assert.deepEqual(Object.keys(outcome.recipients ?? {}), ['c@example.net']);
    assert.deepEqual(sink.messages[0]?.to, ['c@example.net']);
    const all = await destination.deliver(deliveryOf(storedMessage(MAIL), { settled: new Set(to) }));
    assert.equal(all.kind, 'confirmed');
    assert.equal(sink.messages.length, 1);
    await destination.close();
  });
});

suite('each stage and class', { concurrency: true }, () => {
  const stages = ['mail', 'rcpt', 'end'] as const;
  for (const stage of stages) {
    for (const [code, kind] of [
      [451, 'deferred'],
      [554, 'rejected'],
      [421, 'deferred'],
    ] as const) {
      test(`${String(code)} at ${stage} is ${kind}`, async () => {
        await using sink = await startSmtpSink();
        sink.when({ stage, action: { reply: [code, 'so it is'] } });
        const outcome = await deliverOnce(smtpConfig(sink));
        assert.equal(outcome.kind, kind);
        assert.match(outcome.said, new RegExp(`^${String(code)} .*so it is`));
        if (stage !== 'rcpt') assert.equal(outcome.scope, code === 421 ? 'destination' : 'message');
        assert.equal(sink.messages.length, 0);
      });
    }
    test(`a cut at ${stage} is ${stage === 'end' ? 'in doubt' : 'deferred'}`, async () => {
      await using sink = await startSmtpSink();
      sink.when({ stage, action: 'drop' });
      const outcome = await deliverOnce(smtpConfig(sink));
      assert.equal(outcome.kind, stage === 'end' ? 'inDoubt' : 'deferred');
      assert.equal(outcome.scope, stage === 'end' ? 'message' : 'destination');
    });
    test(`silence at ${stage} until the time is up is ${stage === 'end' ? 'in doubt' : 'deferred'}`, async () => {
      await using sink = await startSmtpSink();
      const deadline = new AbortController();
      const reached = Promise.withResolvers<undefined>();
      sink.when({
        stage,
        action: () => {
          reached.resolve(undefined);
          return Promise.resolve('stall');
        },
      });
      const destination = openSmtp(smtpConfig(sink), context);
      const delivering = destination.deliver(deliveryOf(storedMessage(MAIL), { signal: deadline.signal }));
      await reached.promise;
      deadline.abort(new Error('not finished within 1 s'));
      const outcome = await delivering;
      assert.equal(outcome.kind, stage === 'end' ? 'inDoubt' : 'deferred');
      assert.match(outcome.said, /not finished within 1 s/);
      await until(() => sink.open === 0);
    });
  }

  test('a cut in the middle of a long message is deferred', async () => {
    await using sink = await startSmtpSink();
    sink.when({ stage: 'body', action: 'drop' });
    const outcome = await deliverOnce(smtpConfig(sink), `Subject: x\r\n\r\n${'line\r\n'.repeat(2_000_000)}`);
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'message']);
  });

  test('refusals of the connection are about the destination', async () => {
    for (const action of ['drop', { reply: [554, 'go away'] }, { reply: [421, 'busy'] }] as const) {
      await using sink = await startSmtpSink();
      sink.when({ stage: 'connect', action });
      const outcome = await deliverOnce(smtpConfig(sink));
      assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    }
  });

  for (const [answer, kind] of [
    ['451 4.3.0 no room', 'deferred'],
    ['554 5.5.1 no', 'rejected'],
    ['drop', 'deferred'],
  ] as const) {
    test(`${answer} to DATA is ${kind}`, async () => {
      for (const extensions of [['PIPELINING'], []]) {
        await using wire = await startSmtpWire({
          extensions,
          answer: (command) => (command === 'DATA' ? answer : undefined),
        });
        assert.equal((await deliverOnce(smtpConfig(wire))).kind, kind);
      }
    });
  }

  test('an answer that is none after the final dot is in doubt', async () => {
    for (const answer of ['what?', '354 more', '199 hm']) {
      await using wire = await startSmtpWire({ answer: (command) => (command === '.' ? answer : undefined) });
      assert.equal((await deliverOnce(smtpConfig(wire))).kind, 'inDoubt');
    }
  });

  test('a confirmation before the end of the message confirms nothing', async () => {
    await using wire = await startSmtpWire({
      answer: (command) => (command === 'DATA' ? '354 go on\r\n250 2.0.0 taken already' : undefined),
    });
    const outcome = await deliverOnce(smtpConfig(wire), `Subject: x\r\n\r\n${'line\r\n'.repeat(2_000_000)}`);
    assert.equal(outcome.kind, 'deferred');
    assert.match(outcome.said, /did not have yet/);
  });

  test('a refusal in the middle of the message counts, and no octet follows it', async () => {
    await using wire = await startSmtpWire({
      answer: (command) => (command === 'DATA' ? '354 go on\r\n552 5.3.4 too big' : undefined),
    });
    const outcome = await deliverOnce(smtpConfig(wire), `Subject: x\r\n\r\n${'line\r\n'.repeat(2_000_000)}`);
    assert.equal(outcome.kind, 'rejected');
    assert.deepEqual(wire.messages, []);
  });

  test('a stored copy that turns out short is never completed', async () => {
    await using wire = await startSmtpWire();
    const destination = openSmtp(smtpConfig(wire), context);
    const message = storedMessage(MAIL, { streamed: true });
    const outcome = await destination.deliver(deliveryOf({ ...message, size: message.size + 1 }));
    assert.equal(outcome.kind, 'deferred');
    assert.match(outcome.said, /stored copy has/);
    assert.deepEqual(wire.messages, []);
    await destination.close();
  });
});

suite('SIZE', { concurrency: true }, () => {
  test('over the limit of the server is rejected before anything is sent', async () => {
    await using sink = await startSmtpSink({ size: 100 });
    const outcome = await deliverOnce(smtpConfig(sink), 'x'.repeat(200));
    assert.equal(outcome.kind, 'rejected');
    assert.match(outcome.said, /octets, the server takes 100/);
    assert.equal(sink.peak, 0);
  });
});

suite('line ends', { concurrency: true }, () => {
  const smuggled = 'MAIL FROM:<evil@example.org>\r\nRCPT TO:<me@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n';
  const ends = [
    '\n.\n',
    '\n.\r\n',
    '\r\n.\n',
    '\r.\r',
    '\r.\r\n',
    '\r\n.\r',
    '\n.\r',
    '\r.\n',
    '\r\n.\r\n',
    '\0\r\n.\r\n',
  ];

  for (const end of ends) {
    test(`${JSON.stringify(end)} ends no message`, async () => {
      const mail = `Subject: x\r\n\r\nbefore${end}${smuggled}.\r\n`;
      await using sink = await startSmtpSink({ keep: true });
      assert.equal((await deliverOnce(smtpConfig(sink, { trace: false }), mail)).kind, 'confirmed');
      assert.equal(sink.messages.length, 1);
      assert.deepEqual(sink.messages[0]?.bytes, normalizeLineEnds(Buffer.from(mail)));
    });
  }

  test('whatever the message and its chunks: only CRLF on the wire, one end, nothing lost', async () => {
    await using wire = await startSmtpWire();
    const destination = openSmtp(smtpConfig(wire, { trace: false }), context);
    const octet = fc.constantFrom(0x0d, 0x0a, 0x2e, 0x61, 0x00, 0xff);
    const chunks = fc.array(fc.array(octet, { minLength: 1, maxLength: 6 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(chunks, async (parts) => {
        const buffers = parts.map((part) => Buffer.from(part));
        const bytes = Buffer.concat(buffers);
        const message = { ...storedMessage(bytes, { streamed: true }), open: () => Readable.from(buffers) };
        const outcome = await destination.deliver(deliveryOf(message));
        assert.equal(outcome.kind, 'confirmed');
        const wired = (wire.messages.at(-1) ?? Buffer.alloc(0)).toString('latin1');
        assert.doesNotMatch(wired, /(^|[^\r])\n|\r(?!\n)/);
        assert.equal(wired.indexOf('\r\n.\r\n'), wired.length - 5);
        const unstuffed = wired.slice(0, -3).replace(/(^|\r\n)\./g, '$1');
        assert.deepEqual(Buffer.from(unstuffed, 'latin1'), normalizeLineEnds(bytes));
      }),
      { numRuns: 150 },
    );
    await destination.close();
  });
});
