/** Holds a test file to leaving nothing behind: no socket, timer, child process or open file. */

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { until } from './wait.ts';

// What Node and its test runner themselves hold: the pipes of standard output and error, the runner's own channel.
const OWN = new Set(['PipeWrap', 'TTYWrap', 'FSReqPromise', 'CloseReq', 'MessagePort']);

function resources(): string[] {
  return process.getActiveResourcesInfo().filter((name) => !OWN.has(name));
}

/**
 * Call at the top of a test file: after its last test, whatever keeps the process alive must be gone within a second.
 * What was there before the first test does not count.
 */
export function assertNoLeaks(): void {
  const before = count(resources());
  after(async () => {
    let left: string[] = [];
    try {
      await until(() => (left = excess(before)).length === 0, { timeout: 1000, what: 'all resources are released' });
    } catch {
      assert.deepEqual(left, [], 'left open at the end of the test file');
    }
  });
}

function count(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function excess(before: ReadonlyMap<string, number>): string[] {
  const left: string[] = [];
  for (const [name, now] of count(resources())) {
    // the timer of `until` itself is not running while it looks
    if (now > (before.get(name) ?? 0)) left.push(`${name} x ${String(now - (before.get(name) ?? 0))}`);
  }
  return left;
}
