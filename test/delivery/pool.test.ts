// Connections at a time: never more than `concurrency`, also while some of them say goodbye.

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { suite, test } from 'node:test';
import { openDestination } from '../../src/delivery/open.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';

assertNoLeaks();

const context = { hostName: 'ferry.test', now: () => new Date() };
const message = storedMessage('Subject: one\r\n\r\nbody\r\n');

suite('connections of an SMTP destination', { concurrency: true }, () => {
  for (const concurrency of [1, 3]) {
    test(`are at most ${String(concurrency)}, where a server takes its time to let one go`, async (t) => {
      const open = new Set<Socket>();
      let most = 0;
      await using wire = await startSmtpWire({
        extensions: ['PIPELINING'],
        answer(command, socket) {
          if (command.startsWith('EHLO')) {
            open.add(socket);
            for (const event of ['end', 'close']) socket.once(event, () => open.delete(socket));
            most = Math.max(most, open.size);
          }
          return command === 'QUIT' ? '' : undefined;
        },
      });
      const none = undefined;
      const tls = { caFile: none, fingerprint: none, serverName: none, certFile: none, keyFile: none };
      const place = { host: '127.0.0.1', port: wire.port, security: 'none', tls, auth: none, helo: none } as const;
      const envelope = { to: ['me@example.net'], from: { kind: 'original' }, trace: false } as const;
      const destination = openDestination(
        { name: 'me', type: 'smtp', concurrency, timeout: 10_000, ...place, ...envelope },
        context,
      );
      t.after(() => destination.close());
      const outcomes = await Promise.all(
        Array.from({ length: 250 * concurrency }, async () => await destination.deliver(deliveryOf(message))),
      );
      assert.ok(outcomes.every(({ kind }) => kind === 'confirmed'));
      assert.ok(wire.connections > concurrency, 'each has served its hundred, and gone');
      assert.equal(most, concurrency);
    });
  }
});
