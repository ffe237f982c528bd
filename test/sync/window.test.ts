import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Window } from '../../src/sync/window.ts';

const NEVER = new AbortController().signal;
/** Longer than any test. Milliseconds. */
const LONG = 60_000;

describe('a window', () => {
  test('one may always enter, more only within both bounds', () => {
    const window = new Window({ messages: 2, octets: 10 });
    assert(window.hasRoom(1000));
    window.enter(6);
    assert(window.hasRoom(4));
    assert(!window.hasRoom(5));
    window.enter(1);
    assert(!window.hasRoom(0));
    window.resize({ messages: 3, octets: 7 });
    assert(window.hasRoom(0));
  });

  test('work within it waits for room, in any order of ends, and the bound holds', async () => {
    const window = new Window({ messages: Number.POSITIVE_INFINITY, octets: 100 });
    const gates = Array.from({ length: 20 }, () => Promise.withResolvers<void>());
    let inside = 0;
    let most = 0;
    const all = gates.map(async ({ promise }, index) => {
      await window.within(30, LONG, NEVER, async () => {
        inside += 1;
        most = Math.max(most, inside);
        await promise;
        inside -= 1;
      });
      return index;
    });
    for (const gate of gates.toReversed()) gate.resolve();
    assert.deepEqual(
      await Promise.all(all),
      gates.map((_, index) => index),
    );
    assert.equal(most, 3);
    assert(window.isEmpty);
  });

  test('who fails leaves it', async () => {
    const window = new Window({ messages: 1, octets: 1 });
    await assert.rejects(
      window.within(1, LONG, NEVER, async () => Promise.reject(new Error('broken'))),
      /broken/,
    );
    assert(window.isEmpty);
  });

  test('nobody waits for ever: not for one that never leaves, nor when told to stop', async () => {
    const window = new Window({ messages: 1, octets: 1 });
    window.enter(1);
    assert.equal(await window.within(1, 10, NEVER, async () => Promise.resolve('after its time')), 'after its time');
    const stop = new AbortController();
    const stopped = window.within(1, LONG, stop.signal, async () => Promise.resolve('at the stop'));
    stop.abort();
    assert.equal(await stopped, 'at the stop');
    assert.equal(await window.until(() => false, LONG, stop.signal), false);
  });
});
