// The next transaction is announced while the answer to the message before it is waited for: what that may and may not do.

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { suite, test } from 'node:test';
import type { SmtpConfig } from '../../src/config/types.ts';
import type { Delivery, Destination, Outcome } from '../../src/delivery/destination.ts';
import { openDestination } from '../../src/delivery/open.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { smtpConfig } from '../support/smtp-config.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import type { SmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const context = { hostName: 'ferry.test', now: () => new Date() };

function open(place: { host: string; port: number }, changes: Partial<SmtpConfig> = {}): Destination {
  const config = smtpConfig(place, { concurrency: 1, from: { kind: 'original' }, trace: false, ...changes });
  return openDestination(config, context);
}

/**
 * Keeps back every answer from the first message on, and gives them as one when the next DATA is there.
 * @param dot the answer to that message; undefined: it hangs up in place of all of them
 */
function answersLate(dot: string | undefined): (command: string, socket: Socket) => string | undefined {
  const held: string[] = [];
  let state: 'before' | 'holding' | 'after' = 'before';
  return (command) => {
    if (state === 'before' && command === '.') {
      state = 'holding';
      held.push(dot ?? '');
      return '';
    }
    if (state !== 'holding') return undefined;
    if (command === 'DATA') {
      state = 'after';
      return dot === undefined ? 'drop' : [...held, '354 go on'].join('\r\n');
    }
    held.push('250 2.0.0 ok');
    return '';
  };
}

function mail(number: number, changes: Partial<Delivery> = {}): Delivery {
  return deliveryOf(storedMessage(`Subject: ${String(number)}\r\n\r\nbody of ${String(number)}\r\n`), changes);
}

function bodies({ messages }: SmtpWire): string[] {
  return messages.map((message) => /body of (\d+)/.exec(message.toString('latin1'))?.[1] ?? '?');
}

const kinds = (outcomes: readonly Outcome[]): string[] => outcomes.map(({ kind }) => kind);
const extensions = ['PIPELINING'];

suite('announced ahead', { concurrency: true }, () => {
  test('MAIL, RCPT and DATA go behind the final dot, on the same connection', async (t) => {
    await using wire = await startSmtpWire({ extensions, answer: answersLate('250 2.0.0 first taken') });
    const destination = open(wire);
    t.after(() => destination.close());
    const outcomes = await Promise.all([1, 2, 3].map((number) => destination.deliver(mail(number))));
    assert.deepEqual(kinds(outcomes), ['confirmed', 'confirmed', 'confirmed']);
    assert.match(outcomes[0]?.said ?? '', /first taken/, 'each gets its own answer');
    assert.deepEqual(bodies(wire), ['1', '2', '3']);
    assert.equal(wire.connections, 1);
  });

  test('refused at the end: the next one is sent on another connection, and not in doubt', async (t) => {
    for (const dot of ['550 5.7.1 spam', '451 4.3.0 later', '200', 'nonsense']) {
      await using wire = await startSmtpWire({ extensions, answer: answersLate(dot) });
      const destination = open(wire);
      t.after(() => destination.close());
      const outcomes = await Promise.all([1, 2].map((number) => destination.deliver(mail(number))));
      assert.equal(outcomes[1]?.kind, 'confirmed', dot);
      assert.deepEqual(bodies(wire), ['1', '2'], 'sent once');
      assert.equal(wire.connections, dot === '200' ? 1 : 2, dot);
    }
  });

  test('refused when it was announced: the one before and the one behind do not notice, on the same connection', async (t) => {
    let recipients = 0;
    await using wire = await startSmtpWire({
      extensions,
      answer: (command) => {
        if (command.startsWith('RCPT')) recipients += 1;
        if (recipients !== 2 || command === '.') return undefined;
        if (command.startsWith('RCPT')) return '550 5.1.1 nobody';
        return command === 'DATA' ? '503 5.5.1 for whom?' : undefined;
      },
    });
    const destination = open(wire);
    t.after(() => destination.close());
    const outcomes = await Promise.all([1, 2, 3].map((number) => destination.deliver(mail(number))));
    assert.deepEqual(kinds(outcomes), ['confirmed', 'rejected', 'confirmed']);
    assert.deepEqual(bodies(wire), ['1', '3']);
    assert.equal(wire.connections, 1);
    assert.equal(wire.commands.filter((command) => command === 'RSET').length, 1);
  });

  test('the connection breaks: what was sent is in doubt, what was announced is sent on another', async (t) => {
    await using wire = await startSmtpWire({ extensions, answer: answersLate(undefined) });
    const destination = open(wire);
    t.after(() => destination.close());
    const outcomes = await Promise.all([1, 2].map((number) => destination.deliver(mail(number))));
    assert.deepEqual(kinds(outcomes), ['inDoubt', 'confirmed']);
    assert.deepEqual(bodies(wire), ['1', '2']);
  });

  test('what is stopped does no harm to the one before it', async (t) => {
    const sockets: Socket[] = [];
    const answer = (command: string, socket: Socket): string | undefined => {
      if (!sockets.includes(socket)) sockets.push(socket);
      return sockets.length === 1 && /^(\.|MAIL|RCPT|DATA)/.test(command) && wire.messages.length > 0 ? '' : undefined;
    };
    await using wire = await startSmtpWire({ extensions, answer });
    const destination = open(wire);
    t.after(() => destination.close());
    const first = destination.deliver(mail(1));
    const stop = new AbortController();
    const second = destination.deliver(mail(2, { signal: stop.signal }));
    await until(() => wire.commands.filter((command) => command === 'DATA').length === 2, { what: 'the announcement' });
    stop.abort(new Error('this account is another worker’s'));
    assert.equal((await second).kind, 'deferred', 'at once, while the first still waits');
    // The server answers at last, to both.
    sockets[0]?.write('250 2.0.0 taken\r\n250 ok\r\n250 ok\r\n354 go on\r\n');
    assert.equal((await first).kind, 'confirmed');
    assert.equal((await destination.deliver(mail(3))).kind, 'confirmed');
    assert.deepEqual(bodies(wire), ['1', '3'], 'nothing of the second');
  });

  test('not where the server does not pipeline, and one answer is not taken for two', async (t) => {
    let early = 0;
    const answer = (command: string, socket: Socket): string | undefined => {
      if (command !== '.') return undefined;
      const seen = wire.commands.length;
      setTimeout(() => {
        early += wire.commands.length - seen;
        socket.write('250 2.0.0 taken\r\n');
      }, 30);
      return '';
    };
    await using wire = await startSmtpWire({ answer });
    const destination = open(wire);
    t.after(() => destination.close());
    const outcomes = await Promise.all([1, 2, 3].map((number) => destination.deliver(mail(number))));
    assert.deepEqual(kinds(outcomes), ['confirmed', 'confirmed', 'confirmed']);
    assert.equal(early, 0);
  });

  test('there are never more connections than concurrency says, and each is used', async (t) => {
    const live = new Set<Socket>();
    let most = 0;
    const answer = (command: string, socket: Socket): undefined => {
      // What says QUIT is on its way out.
      if (command === 'QUIT') live.delete(socket);
      if (!command.startsWith('EHLO')) return;
      live.add(socket);
      most = Math.max(most, live.size);
    };
    await using wire = await startSmtpWire({ extensions, answer });
    const destination = open(wire, { concurrency: 3 });
    t.after(() => destination.close());
    const outcomes = await Promise.all(Array.from({ length: 300 }, (_, number) => destination.deliver(mail(number))));
    assert(outcomes.every(({ kind }) => kind === 'confirmed'));
    assert.equal(new Set(bodies(wire)).size, 300);
    assert.equal(wire.messages.length, 300);
    assert.equal(most, 3);
    assert(wire.connections >= 3 && wire.connections <= 5, `${String(wire.connections)}: 100 messages each`);
  });

  test('a server that takes fewer messages of a connection than we send gets the others over further ones', async (t) => {
    const taken = new Map<Socket, number>();
    const answer = (command: string, socket: Socket): string | undefined => {
      if (command === '.') taken.set(socket, (taken.get(socket) ?? 0) + 1);
      if (!command.startsWith('MAIL') || (taken.get(socket) ?? 0) < 5) return undefined;
      socket.end('421 4.7.0 too many messages in this connection\r\n');
      return '';
    };
    await using wire = await startSmtpWire({ extensions, answer });
    const destination = open(wire, { concurrency: 2 });
    t.after(() => destination.close());
    const outcomes = await Promise.all(Array.from({ length: 40 }, (_, number) => destination.deliver(mail(number))));
    assert(outcomes.every(({ kind }) => kind === 'confirmed'));
    assert.equal(wire.messages.length, 40);
    assert.equal(new Set(bodies(wire)).size, 40);
  });

  test('closed while answers are waited for: they are waited for', async () => {
    await using wire = await startSmtpWire({
      extensions,
      answer(command, socket) {
        if (command !== '.') return undefined;
        setTimeout(() => socket.write('250 2.0.0 taken\r\n'), 50);
        return '';
      },
    });
    const destination = open(wire);
    const first = destination.deliver(mail(1));
    await until(() => wire.messages.length === 1, { what: 'the message' });
    await destination.close();
    assert.equal((await first).kind, 'confirmed');
    await until(() => wire.commands.at(-1) === 'QUIT', { what: 'QUIT behind the answer' });
  });
});
