import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Destination, Outcome } from '../../src/delivery/destination.ts';
import { withLimits } from '../../src/delivery/limited.ts';
import { reasonOf } from '../../src/failure.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';

assertNoLeaks();

const delivery = deliveryOf(storedMessage('Subject: x\r\n\r\n'));
const confirmed: Outcome = { kind: 'confirmed', said: 'ok', scope: 'message' };

/** A destination whose deliveries end when the test says so, or when they are aborted. */
function manual(): { destination: Destination; running: (() => void)[]; peak: () => number } {
  const running: (() => void)[] = [];
  let busy = 0;
  let peak = 0;
  const destination: Destination = {
    name: 'manual',
    check: () => Promise.resolve('ok'),
    close: () => Promise.resolve(),
    deliver({ signal }) {
      peak = Math.max(peak, ++busy);
      return new Promise((resolve) => {
        const end = (outcome: Outcome): void => {
          busy--;
          resolve(outcome);
        };
        running.push(() => {
          end(confirmed);
        });
        signal.addEventListener('abort', () => {
          end({ kind: 'deferred', said: reasonOf(signal.reason), scope: 'message' });
        });
      });
    },
  };
  return { destination, running, peak: () => peak };
}

test('so many at a time, first come, first served', async () => {
  const { destination, running, peak } = manual();
  const limited = withLimits(destination, { limit: 2, timeout: 60_000, announces: false });
  const order: number[] = [];
  const all = [1, 2, 3, 4, 5].map(async (number) => {
    await limited.deliver(delivery);
    order.push(number);
  });
  for (let number = 0; number < 5; number++) {
    while (running.length === 0) await Promise.resolve();
    running.shift()?.();
    await all[number];
  }
  assert.deepEqual(order, [1, 2, 3, 4, 5]);
  assert.equal(peak(), 2);
});

test('so long for each, counted from its turn', async () => {
  const { destination } = manual();
  const limited = withLimits(destination, { limit: 1, timeout: 50, announces: false });
  const outcomes = await Promise.all([limited.deliver(delivery), limited.deliver(delivery)]);
  assert.deepEqual(
    outcomes.map(({ kind, said }) => `${kind}: ${said}`),
    ['deferred: not finished within 1 s', 'deferred: not finished within 1 s'],
  );
});

test('whoever is stopped while waiting never gets a turn', async () => {
  const { destination, running } = manual();
  const limited = withLimits(destination, { limit: 1, timeout: 60_000, announces: false });
  const first = limited.deliver(delivery);
  const stop = new AbortController();
  const second = limited.deliver({ ...delivery, signal: stop.signal });
  stop.abort();
  assert.equal((await second).kind, 'deferred');
  assert.equal(running.length, 1);
  running.shift()?.();
  assert.equal((await first).kind, 'confirmed');
  const third = limited.deliver({ ...delivery, signal: stop.signal });
  assert.equal((await third).kind, 'deferred');
});
