import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseDuration, printDuration } from '../../src/config/duration.ts';
import { parseSize, printSize } from '../../src/config/size.ts';

test('durations', () => {
  for (const [text, milliseconds] of [
    ['0s', 0],
    ['90s', 90_000],
    ['5m', 300_000],
    ['12h', 43_200_000],
    ['30d', 2_592_000_000],
    ['36500d', 3_153_600_000_000],
    ['36501d', undefined],
    ['5', undefined],
    ['5M', undefined],
    ['5 m', undefined],
    [' 5m', undefined],
    ['5m\n', undefined],
    ['1.5h', undefined],
    ['-5m', undefined],
    ['1e3s', undefined],
    ['٥m', undefined],
    ['', undefined],
    ['9'.repeat(400) + 's', undefined],
  ] as const) {
    assert.equal(parseDuration(text), milliseconds, text);
  }
  assert.equal(printDuration(90_000), '90s');
  assert.equal(printDuration(3_600_000), '1h');
  assert.equal(printDuration(0), '0s');
});

test('sizes', () => {
  for (const [text, octets] of [
    ['0B', 0],
    ['64KB', 65_536],
    ['25MB', 26_214_400],
    ['1GB', 1_073_741_824],
    ['25', undefined],
    ['25mb', undefined],
    ['25 MB', undefined],
    ['25MiB', undefined],
    ['0.5GB', undefined],
    ['999999999999999GB', undefined],
    ['', undefined],
  ] as const) {
    assert.equal(parseSize(text), octets, text);
  }
  assert.equal(printSize(65_536), '64KB');
  assert.equal(printSize(65_537), '65537B');
});

test('what is printed parses to the same', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 36_500 * 86_400 }), (seconds) => {
      assert.equal(parseDuration(printDuration(seconds * 1000)), seconds * 1000);
    }),
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.maxSafeNat(),
        fc.integer({ min: 0, max: 4096 }).map((n) => n * 1024 ** 2),
      ),
      (octets) => {
        fc.pre(octets < 1e15);
        assert.equal(parseSize(printSize(octets)), octets);
      },
    ),
  );
});
