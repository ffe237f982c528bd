/** The sandbox SMTP server over a raw connection, and its reading of DATA in any pieces. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { SmtpData } from '../../src/demo/smtp-data.ts';
import { SmtpReceiver } from '../../src/demo/smtp-receiver.ts';
import type { Screening } from '../../src/demo/smtp-receiver.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { Dialogue } from './dialogue.ts';

assertNoLeaks();

const ENVELOPE = ['MAIL FROM:<a@b.example> BODY=8BITMIME SIZE=20', 'RCPT TO:<c@d.example>'];
const MESSAGE = 'Message-ID: <1@x>\r\n\r\n..dot\r\n';

async function opened(screen: Screening = () => undefined): Promise<SmtpReceiver & AsyncDisposable> {
  const receiver = await SmtpReceiver.open(screen);
  return Object.assign(receiver, { [Symbol.asyncDispose]: async () => await receiver.close() });
}

async function greeted(receiver: SmtpReceiver): Promise<Dialogue> {
  const dialogue = await Dialogue.open(receiver.port);
  assert.match(await dialogue.heard('\r\n'), /^220 /);
  assert.match(await dialogue.ask('EHLO test\r\n', '\r\n'), /250-PIPELINING\r\n250-8BITMIME\r\n[^]*250 SIZE \d+\r\n$/);
  return dialogue;
}

describe('the sandbox SMTP server', () => {
  test('takes a message octet for octet, below the trace field on top', async () => {
    await using receiver = await opened();
    await using dialogue = await greeted(receiver);
    for (const line of ENVELOPE) assert.match(await dialogue.line(line), /^250 /);
    assert.match(await dialogue.line('DATA'), /^354 /);
    const trace = 'Received: by here (mailferry) with POP3 id x\r\n\tfor <c@d.example>; now\r\n';
    assert.match(await dialogue.line(`${trace}${MESSAGE}.`), /^250 /);
    const octets = Buffer.from('Message-ID: <1@x>\r\n\r\n.dot\r\n');
    assert.deepEqual(receiver.arrivals, [
      { messageId: '<1@x>', size: octets.length, sha256: createHash('sha256').update(octets).digest('hex') },
    ]);
  });

  test('answers pipelined commands in their order', async () => {
    await using receiver = await opened();
    await using dialogue = await greeted(receiver);
    const replies = await dialogue.ask(`${[...ENVELOPE, 'DATA'].join('\r\n')}\r\n`, 'own\r\n');
    assert.deepEqual(replies.match(/^\d+/gm), ['250', '250', '354']);
    const end = await dialogue.ask(`${MESSAGE}.\r\nNOOP\r\nQUIT\r\n`, 'bye\r\n');
    assert.deepEqual(end.match(/^\d+/gm), ['250', '250', '221']);
    await dialogue.ended();
  });

  test('puts off or refuses what it is told to, and keeps none of it', async () => {
    const replies = ['451 later', '550 never'];
    await using receiver = await opened(() => replies.shift());
    await using dialogue = await greeted(receiver);
    for (const expected of [/^451/, /^550/, /^250/]) {
      for (const line of [...ENVELOPE, 'DATA']) await dialogue.line(line);
      assert.match(await dialogue.line(`${MESSAGE}.`), expected);
    }
    assert.equal(receiver.arrivals.length, 1);
  });

  test('holds clients to the order of commands', async () => {
    await using receiver = await opened();
    await using dialogue = await Dialogue.open(receiver.port);
    await dialogue.heard('\r\n');
    assert.match(await dialogue.line('MAIL FROM:<a@b>'), /^503/);
    await dialogue.ask('EHLO test\r\n', '\r\n');
    assert.match(await dialogue.line('RCPT TO:<a@b>'), /^503/);
    assert.match(await dialogue.line('DATA'), /^503/);
    assert.match(await dialogue.line('MAIL FROM:<a@b> BODY=8BITMIME XYZ=1'), /^555/);
    assert.match(await dialogue.line('MAIL FROM:<a@b> SIZE=999999999999'), /^552/);
    assert.match(await dialogue.line('MAIL FROM: a@b'), /^501/);
    assert.match(await dialogue.line('MAIL FROM:<>'), /^250/);
    assert.match(await dialogue.line('DATA'), /^503/);
    assert.match(await dialogue.line('VRFY a'), /^502/);
    assert.match(await dialogue.line('RSET'), /^250/);
    assert.match(await dialogue.line('RCPT TO:<a@b>'), /^503/);
  });
});

describe('DATA', () => {
  const piece = fc.constantFrom('\r\n', '\r', '\n', '.', '\r\n.', 'a', '\0', '\u00ff');

  test('comes back as it was sent, in whatever pieces', () => {
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), fc.array(fc.nat(7), { maxLength: 60 }), (parts, cuts) => {
        const message = parts.length === 0 ? '' : `${parts.join('')}\r\n`;
        const stuffed = `\r\n${message}`.replaceAll('\r\n.', '\r\n..').slice(2);
        const wire = Buffer.from(`${stuffed}.\r\nNOOP\r\n`, 'latin1');
        const data = new SmtpData(1000);
        let rest: Buffer | undefined;
        let from = 0;
        for (const cut of [...cuts, wire.length]) {
          const to = Math.min(wire.length, from + cut);
          rest = data.take(wire.subarray(from, to));
          from = to;
          if (rest !== undefined) break;
        }
        assert.equal(`${String(rest)}${wire.toString('latin1', from)}`, 'NOOP\r\n');
        assert.equal(data.octets().toString('latin1'), message);
      }),
    );
  });

  test('keeps no more than its limit, and shows that there was more', () => {
    const data = new SmtpData(10);
    for (let count = 0; count < 100; count += 1) assert.equal(data.take(Buffer.from('0123456789')), undefined);
    assert.equal(data.take(Buffer.from('\r\n.\r\n'))?.length, 0);
    const { length } = data.octets();
    assert.ok(length > 10 && length < 30, String(length));
  });
});
