// It is written down that a delivery begins while its server hears of it; not an octet of the message goes out before that.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Destination } from '../../src/delivery/destination.ts';
import { withLimits } from '../../src/delivery/limited.ts';
import { openDestination } from '../../src/delivery/open.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const context = { hostName: 'ferry.test', now: () => new Date() };
const message = storedMessage('Subject: one\r\n\r\nbody\r\n');

function open(port: number, timeout = 5000): Destination {
  const none = undefined;
  const tls = { caFile: none, fingerprint: none, serverName: none, certFile: none, keyFile: none };
  const limits = { concurrency: 1, timeout };
  const place = { host: '127.0.0.1', port, security: 'none', tls, auth: none, helo: none } as const;
  const envelope = { to: ['me@example.net'], from: { kind: 'original' }, trace: false } as const;
  return openDestination({ name: 'me', type: 'smtp', ...limits, ...place, ...envelope }, context);
}

suite('a delivery that begins', { concurrency: true }, () => {
  for (const extensions of [['PIPELINING'], []]) {
    test(`is announced at once, and sent when that is durable (${extensions.join() || 'no extensions'})`, async (t) => {
      const order: string[] = [];
      await using wire = await startSmtpWire({
        extensions,
        answer(command) {
          if (command === 'DATA' || command === '.') order.push(command);
          return undefined;
        },
      });
      const destination = open(wire.port);
      t.after(() => destination.close());
      const written = Promise.withResolvers<boolean>();
      const outcome = destination.deliver(deliveryOf(message, { begin: () => written.promise }));
      await until(() => order.length > 0, { what: 'the announcement' });
      order.push('written');
      written.resolve(true);
      assert.equal((await outcome).kind, 'confirmed');
      assert.deepEqual(order, ['DATA', 'written', '.']);
    });
  }

  test('and must not be sent: nothing of it is, and the next has a connection of its own', async (t) => {
    await using wire = await startSmtpWire({ extensions: ['PIPELINING'] });
    const destination = open(wire.port);
    t.after(() => destination.close());
    const first = await destination.deliver(deliveryOf(message, { begin: () => Promise.resolve(false) }));
    assert.deepEqual([first.kind, first.scope], ['deferred', 'message'], 'nothing that speaks against the server');
    assert.equal(wire.messages.length, 0);
    assert.equal((await destination.deliver(deliveryOf(message))).kind, 'confirmed');
    assert.equal(wire.connections, 2);
  });

  test('and must not be sent, behind one that is: that one has its answer', async (t) => {
    const answers: (() => void)[] = [];
    await using wire = await startSmtpWire({
      extensions: ['PIPELINING'],
      answer(command, socket) {
        if (command !== '.' || answers.length > 0) return undefined;
        answers.push(() => socket.write('250 2.0.0 taken\r\n'));
        return '';
      },
    });
    const destination = open(wire.port);
    t.after(() => destination.close());
    const first = destination.deliver(deliveryOf(message));
    const second = destination.deliver(deliveryOf(message, { begin: () => Promise.resolve(false) }));
    await until(() => answers.length > 0, { what: 'the first message' });
    answers[0]?.();
    assert.equal((await first).kind, 'confirmed');
    assert.equal((await second).kind, 'deferred');
    assert.equal(wire.messages.length, 1);
  });

  test('and is held up by the ledger until its time is up: nothing that speaks against the server', async (t) => {
    await using wire = await startSmtpWire({ extensions: ['PIPELINING'] });
    const destination = open(wire.port, 200);
    t.after(() => destination.close());
    const written = Promise.withResolvers<boolean>();
    const delivery = destination.deliver(deliveryOf(message, { begin: () => written.promise }));
    await until(() => wire.commands.includes('DATA') && wire.open === 0, { what: 'that it hangs up' });
    written.resolve(true);
    const outcome = await delivery;
    assert.deepEqual([outcome.kind, outcome.scope, outcome.timedOut], ['deferred', 'message', undefined]);
    assert.match(outcome.said, /not written down/);
    assert.equal(wire.messages.length, 0);
  });

  test('is not heard of before that by a destination that announces nothing', async () => {
    const order: string[] = [];
    const destination: Destination = {
      name: 'x',
      deliver: () => {
        order.push('delivered');
        return Promise.resolve({ kind: 'confirmed', said: '', scope: 'message' });
      },
      check: () => Promise.resolve(''),
      close: () => Promise.resolve(),
    };
    const limited = withLimits(destination, { limit: 1, timeout: 1000, announces: false });
    const written = Promise.withResolvers<boolean>();
    const outcome = limited.deliver(deliveryOf(message, { begin: () => written.promise }));
    for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
    order.push('written');
    written.resolve(true);
    assert.equal((await outcome).kind, 'confirmed');
    assert.deepEqual(order, ['written', 'delivered']);
    const stopped = await limited.deliver(deliveryOf(message, { begin: () => Promise.resolve(false) }));
    assert.equal(stopped.kind, 'deferred');
    assert.equal(order.length, 2);
  });
});
