// Which connections serve again, and after what.

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { suite, test } from 'node:test';
import { openDestination } from '../../src/delivery/open.ts';
import { openSmtp } from '../../src/delivery/smtp.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { smtpConfig } from '../support/smtp-config.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const MAIL = 'From: jane@example.org\r\nSubject: hello\r\n\r\nHello.\r\n';
const byNumber = (one: number, other: number): number => one - other;
const context = { hostName: 'ferry.test', now: () => new Date('2026-01-02T03:04:05Z') };

/**
 * A server as strict as they come: no MAIL within a transaction, no RCPT or DATA outside one.
 * @param times how often it refuses the command `refused`, with `answer`
 */
function strict(refused: string, answer: string, times: number): (command: string) => string | undefined {
  let left = times;
  let recipients: number | undefined;
  return (command) => {
    const word = command.slice(0, 4).toUpperCase();
    if (word === '.' || word === 'RSET' || word === 'EHLO') {
      recipients = undefined;
      return undefined;
    }
    const isOutOfTurn =
      word === 'MAIL'
        ? recipients !== undefined
        : word === 'RCPT'
          ? recipients === undefined
          : word === 'DATA' && !recipients;
    if (isOutOfTurn) return '503 5.5.1 out of turn';
    if (word === refused && left-- > 0) return answer;
    if (word === 'MAIL') recipients = 0;
    if (word === 'RCPT') recipients = (recipients ?? 0) + 1;
    return undefined;
  };
}

suite('connections', { concurrency: true }, () => {
  test('are used again, and at most as many as are delivered at a time', async () => {
    await using sink = await startSmtpSink();
    const destination = openSmtp(smtpConfig(sink), context);
    for (let count = 0; count < 5; count++) await destination.deliver(deliveryOf(storedMessage(MAIL)));
    assert.equal(sink.connections, 1);
    await Promise.all([1, 2, 3].map(() => destination.deliver(deliveryOf(storedMessage(MAIL)))));
    assert.equal(sink.connections, 3);
    await destination.close();
    await until(() => sink.open === 0);
  });

  test('that went away while idle cost nothing', async () => {
    await using sink = await startSmtpSink();
    const destination = openSmtp(smtpConfig(sink), context);
    await destination.deliver(deliveryOf(storedMessage(MAIL)));
    sink.dropAll();
    assert.equal((await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind, 'confirmed');
    sink.when({ stage: 'mail', times: 1, action: { reply: [421, '4.4.2 idle for too long'] } });
    assert.equal((await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind, 'confirmed');
    assert.equal(sink.messages.length, 3);
    await destination.close();
  });

  test('are not used again after a refusal of the message: it may have come amid it', async () => {
    await using sink = await startSmtpSink();
    sink.when({ stage: 'end', times: 1, action: { reply: [554, '5.7.1 no'] } });
    const destination = openSmtp(smtpConfig(sink), context);
    await destination.deliver(deliveryOf(storedMessage(MAIL)));
    await destination.deliver(deliveryOf(storedMessage(MAIL)));
    assert.equal(sink.connections, 2);
    await destination.close();
  });

  for (const extensions of [['PIPELINING'], []]) {
    test(`serve on after a refusal before the message, with RSET first (${extensions.join('') || 'one by one'})`, async () => {
      for (const [refused, answer] of [
        ['MAIL', '451 4.7.1 greylisted'],
        ['RCPT', '550 5.1.1 nobody'],
        ['DATA', '452 4.3.1 full'],
      ] as const) {
        await using wire = await startSmtpWire({ extensions, answer: strict(refused, answer, 1) });
        const destination = openSmtp(smtpConfig(wire), context);
        const outcomes = [
          await destination.deliver(deliveryOf(storedMessage(MAIL))),
          await destination.deliver(deliveryOf(storedMessage(MAIL))),
          await destination.deliver(deliveryOf(storedMessage(MAIL))),
        ];
        const first = answer.startsWith('5') ? 'rejected' : 'deferred';
        assert.deepEqual(
          outcomes.map(({ kind }) => kind),
          [first, 'confirmed', 'confirmed'],
          refused,
        );
        assert.equal(wire.connections, 1, refused);
        const words = wire.commands.map((line) => line.slice(0, 4));
        assert.equal(words.filter((word) => word === 'RSET').length, 1, 'once, and not before what was taken');
        assert.deepEqual(words.slice(words.indexOf('RSET'), words.indexOf('RSET') + 3), ['RSET', 'MAIL', 'RCPT']);
        await destination.close();
      }
    });
  }

  test('that refuse one message after another are given up, before the server slows down', async () => {
    await using wire = await startSmtpWire({
      extensions: ['PIPELINING'],
      answer: strict('RCPT', '550 5.1.1 nobody', 100),
    });
    const destination = openSmtp(smtpConfig(wire), context);
    for (let count = 0; count < 12; count++) {
      assert.equal((await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind, 'rejected');
    }
    assert.equal(wire.connections, 3);
    await destination.close();
  });

  test('that do not take RSET cost nothing but themselves', async () => {
    for (const answer of ['502 5.5.1 what?', '421 4.7.0 too many errors', 'drop']) {
      const usual = strict('RCPT', '550 5.1.1 nobody', 1);
      await using wire = await startSmtpWire({
        extensions: ['PIPELINING'],
        answer: (command) => (command === 'RSET' ? answer : usual(command)),
      });
      const destination = openSmtp(smtpConfig(wire), context);
      await destination.deliver(deliveryOf(storedMessage(MAIL)));
      assert.equal((await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind, 'confirmed', answer);
      assert.equal(wire.connections, 2, answer);
      assert.equal(wire.messages.length, 1, 'sent once');
      await destination.close();
    }
  });
});

suite('connections whose server is odd', { concurrency: true }, () => {
  test('that say 250 to DATA for nobody, or without a sender, are given up: they may wait for a message', async () => {
    for (const refused of ['MAIL', 'RCPT']) {
      let left = 1;
      await using wire = await startSmtpWire({
        extensions: ['PIPELINING'],
        answer: (command) => {
          if (command.startsWith(refused) && left === 1) return '550 5.7.1 no';
          return command === 'DATA' && left-- > 0 ? '250 2.0.0 go on' : undefined;
        },
      });
      const destination = openSmtp(smtpConfig(wire), context);
      assert.equal((await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind, 'rejected', refused);
      assert.equal((await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind, 'confirmed', refused);
      assert.equal(wire.connections, 2, refused);
      await destination.close();
    }
  });

  test('that answer a message together with a part of what was announced behind it go on', async () => {
    let [mails, held] = [0, false];
    await using wire = await startSmtpWire({
      extensions: ['PIPELINING'],
      answer: (command, socket) => {
        if (command.startsWith('MAIL')) mails += 1;
        if (command === '.' && mails === 1) {
          held = true;
          return '';
        }
        if (!held) return undefined;
        if (command.startsWith('MAIL')) return '250 2.0.0 first taken\r\n250 2.1.0 sender';
        if (command !== 'DATA') return '';
        held = false;
        // The rest of its answers, in a read of its own.
        setTimeout(() => socket.write('250 2.1.5 recipient\r\n354 go on\r\n'), 100);
        return '';
      },
    });
    const destination = openDestination(smtpConfig(wire, { concurrency: 1 }), context);
    const deliver = async (): Promise<string> => (await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind;
    // What becomes of the second is not told: its message has lines that this server, unlike others, takes for commands.
    const [first] = await Promise.all([deliver(), deliver()]);
    assert.equal(first, 'confirmed');
    assert.deepEqual([wire.connections, mails], [1, 2]);
    await destination.close();
  });

  test('that have answered for one recipient are waited for until they answer for the other', async () => {
    let dots = 0;
    const late: string[] = [];
    await using wire = await startSmtpWire({
      extensions: ['PIPELINING'],
      answer: (command) => {
        if (command === '.') return ++dots === 1 ? '250 2.0.0 one' : '250 2.0.0 one\r\n250 2.0.0 other';
        if (dots !== 1) return undefined;
        if (command === 'DATA') return ['250 2.0.0 other', ...late, '354 go on'].join('\r\n');
        late.push('250 2.0.0 ok');
        return '';
      },
    });
    const { host, port, ...rest } = smtpConfig(wire, { concurrency: 1, to: ['one@example.net', 'other@example.net'] });
    const destination = openDestination({ ...rest, type: 'lmtp', place: { host, port } }, context);
    const deliver = async (): Promise<string> => (await destination.deliver(deliveryOf(storedMessage(MAIL)))).kind;
    const first = deliver();
    await until(() => dots === 1);
    assert.deepEqual(await Promise.all([first, deliver()]), ['confirmed', 'confirmed']);
    assert.deepEqual([wire.connections, wire.messages.length], [1, 2]);
    await destination.close();
  });
});

suite('refusals amid a stream of messages', { concurrency: true }, () => {
  // Each message has a sender and a recipient of its own, and each answer repeats them: one that went astray would show.
  for (const extensions of [['PIPELINING'], []]) {
    for (const concurrency of [1, 4]) {
      test(`each message gets its own answer (${extensions.join('') || 'one by one'}, ${String(concurrency)})`, async () => {
        const wants = (text: string): number => Number(/<(\d+)@/.exec(text)?.[1] ?? -1);
        // By the last digit of the number: where it is refused, and how.
        const refused: Readonly<Record<number, readonly [string, number]>> = {
          1: ['MAIL', 451],
          2: ['MAIL', 550],
          3: ['RCPT', 450],
          4: ['RCPT', 553],
          5: ['DATA', 452],
        };
        const state = new WeakMap<Socket, { sender: number; recipient: number }>();
        const taken: number[] = [];
        await using wire = await startSmtpWire({
          extensions,
          answer: (command, socket) => {
            const now = state.get(socket) ?? { sender: -1, recipient: -1 };
            state.set(socket, now);
            const word = command.slice(0, 4).toUpperCase();
            if (word === 'RSET' || word === '.') state.delete(socket);
            if (word === '.') {
              taken.push(now.recipient);
              return `250 2.0.0 <${String(now.recipient)}@> taken`;
            }
            if (!['MAIL', 'RCPT', 'DATA'].includes(word)) return undefined;
            const number = word === 'DATA' ? now.recipient : wants(command);
            const isInTurn = word === 'MAIL' ? now.sender < 0 : word === 'RCPT' ? now.sender === number : number >= 0;
            if (!isInTurn) return `503 5.5.1 <${String(number)}@> out of turn`;
            const [stage, code] = refused[number % 10] ?? [];
            if (stage === word) return `${String(code)} 4.0.0 <${String(number)}@> refused`;
            if (word === 'MAIL') now.sender = number;
            if (word === 'RCPT') now.recipient = number;
            return undefined;
          },
        });
        const multidrop = { headers: ['Delivered-To'], removePrefix: undefined, domains: ['example.net'] };
        const place = smtpConfig(wire, { concurrency, multidrop, from: { kind: 'original' } });
        const destination = openDestination(place, context);
        // No order, so that refusals follow each other by chance.
        const numbers = Array.from({ length: 1000 }, (_, index) => (index * 7919) % 1009);
        const outcomes = await Promise.all(
          numbers.map(async (number) => {
            const head = `Return-Path: <${String(number)}@example.org>\r\nDelivered-To: ${String(number)}@example.net\r\n`;
            return await destination.deliver(deliveryOf(storedMessage(`${head}Subject: x\r\n\r\nx\r\n`)));
          }),
        );
        await destination.close();
        for (const [index, { kind, said }] of outcomes.entries()) {
          const number = numbers[index] ?? 0;
          const [, code] = refused[number % 10] ?? [];
          assert.equal(kind, code === undefined ? 'confirmed' : code < 500 ? 'deferred' : 'rejected', said);
          assert.equal(wants(said), number, said);
        }
        const accepted = numbers.filter((number) => refused[number % 10] === undefined);
        assert.deepEqual(taken.toSorted(byNumber), accepted.toSorted(byNumber), 'each once');
        assert(wire.connections < 60, `${String(wire.connections)} connections for 500 refusals`);
      });
    }
  }
});
