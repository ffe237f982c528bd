import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { LmtpConfig } from '../../src/config/types.ts';
import type { Outcome } from '../../src/delivery/destination.ts';
import { openLmtp } from '../../src/delivery/lmtp.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { tempDir } from '../support/temp.ts';

assertNoLeaks();

const MAIL = 'Return-Path: <jane@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n.\r\n';
const TO = ['a@example.net', 'b@example.net', 'c@example.net'];
const context = { hostName: 'ferry.test', now: () => new Date() };

function lmtpConfig(place: LmtpConfig['place'], to = TO): LmtpConfig {
  return {
    name: 'store',
    type: 'lmtp',
    concurrency: 3,
    timeout: 5000,
    place,
    security: 'none',
    tls: { caFile: undefined, fingerprint: undefined, serverName: undefined, certFile: undefined, keyFile: undefined },
    auth: undefined,
    to,
    from: { kind: 'original' },
    trace: true,
    helo: undefined,
  };
}

async function deliverOnce(config: LmtpConfig): Promise<Outcome> {
  const destination = openLmtp(config, context);
  try {
    return await destination.deliver(deliveryOf(storedMessage(MAIL)));
  } finally {
    await destination.close();
  }
}

function kinds(outcome: Outcome): string[] {
  return TO.map((address) => outcome.recipients?.[address]?.kind ?? 'none');
}

suite('LMTP', { concurrency: true }, () => {
  test('by TCP and by a Unix socket', async () => {
    await using tcp = await startSmtpSink({ lmtp: true });
    const path = join(await tempDir(), 'lmtp');
    await using unix = await startSmtpSink({ lmtp: true, path });
    for (const [sink, place] of [[tcp, { host: tcp.host, port: tcp.port }] as const, [unix, { path }] as const]) {
      const outcome = await deliverOnce(lmtpConfig(place));
      assert.equal(outcome.kind, 'confirmed', outcome.said);
      assert.equal(sink.messages[0]?.sha256BelowTrace, createHash('sha256').update(MAIL).digest('hex'));
      assert.deepEqual(sink.messages[0].to, TO);
      const destination = openLmtp(lmtpConfig(place), context);
      assert.match(await destination.check(new AbortController().signal), /^LMTP at /);
      await destination.close();
    }
  });

  for (const extensions of [['PIPELINING', '8BITMIME'], []]) {
    test(`each recipient has its own reply after the message (${extensions.join(' ')})`, async () => {
      await using wire = await startSmtpWire({
        extensions,
        answer: (command) =>
          command === '.'
            ? '250 2.0.0 <a> saved as 1\r\n550 5.2.2 full\r\n451-4.2.0 try\r\n451 4.2.0 later'
            : undefined,
      });
      const outcome = await deliverOnce(lmtpConfig(wire));
      assert.equal(outcome.kind, 'deferred');
      assert.deepEqual(kinds(outcome), ['confirmed', 'rejected', 'deferred']);
      assert.equal(outcome.recipients?.['a@example.net']?.said, '250 2.0.0 <a> saved as 1');
      assert.equal(outcome.recipients['b@example.net']?.said, '550 5.2.2 full');
      assert.equal(outcome.recipients['c@example.net']?.said, '451 4.2.0 try later');
    });
  }

  test('refused recipients get no reply after the message', async () => {
    await using wire = await startSmtpWire({
      answer: (command) => {
        if (command.startsWith('RCPT TO:<b')) return '550 5.1.1 unknown';
        return command === '.' ? '451 4.2.0 <a>\r\n250 2.0.0 <c>' : undefined;
      },
    });
    const outcome = await deliverOnce(lmtpConfig(wire));
    assert.deepEqual(kinds(outcome), ['deferred', 'rejected', 'confirmed']);
  });

  test('a cut between the replies leaves in doubt only those that had none', async () => {
    await using wire = await startSmtpWire({
      answer: (command, socket) => {
        if (command !== '.') return undefined;
        socket.end('250 2.0.0 <a> saved\r\n452 4.2.2 full\r\n');
        return '';
      },
    });
    const outcome = await deliverOnce(lmtpConfig(wire));
    assert.equal(outcome.kind, 'inDoubt');
    assert.deepEqual(kinds(outcome), ['confirmed', 'deferred', 'inDoubt']);
  });

  test('421 among the replies ends them: who had none of his own is in doubt, never confirmed', async () => {
    await using wire = await startSmtpWire({
      answer: (command, socket) => {
        if (command !== '.') return undefined;
        socket.end('250 2.0.0 <a> saved\r\n421 4.3.2 shutting down\r\n');
        return '';
      },
    });
    const outcome = await deliverOnce(lmtpConfig(wire));
    assert.equal(outcome.kind, 'inDoubt');
    assert.deepEqual(kinds(outcome), ['confirmed', 'deferred', 'inDoubt']);
  });

  test('a reply that is none leaves its recipient in doubt', async () => {
    await using wire = await startSmtpWire({
      answer: (command) => (command === '.' ? '250 2.0.0 <a>\r\n354 what?\r\n250 2.0.0 <c>' : undefined),
    });
    assert.deepEqual(kinds(await deliverOnce(lmtpConfig(wire))), ['confirmed', 'inDoubt', 'confirmed']);
  });

  test('nobody accepted', async () => {
    await using wire = await startSmtpWire({
      extensions: ['PIPELINING'],
      answer: (command) => {
        if (command.startsWith('RCPT')) return '550 5.1.1 unknown';
        return command === 'DATA' ? '503 5.5.0 No valid recipients' : undefined;
      },
    });
    assert.deepEqual(kinds(await deliverOnce(lmtpConfig(wire))), ['rejected', 'rejected', 'rejected']);
  });
});
