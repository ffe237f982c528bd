import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { CronTime } from 'cron';
import * as fc from 'fast-check';
import { nextCronTime, offsetOf } from '../../src/sync/schedule.ts';

/** Expressions, and the spread of their accounts. */
const expression = fc.constantFrom(
  ['* * * * *', 30_000],
  ['*/5 * * * *', 30_000],
  ['0,1 * * * *', 30_000],
  ['30 3 * * 1', 30_000],
  ['0 0 1 * *', 30_000],
  ['15 */2 * * * *', 30_000],
  ['@daily', 30_000],
  ['*/7 * * * * *', 500],
  ['0,1 0 * * * *', 500],
) as fc.Arbitrary<[string, number]>;
const zone = fc.constantFrom(undefined, 'UTC', 'Europe/Paris', 'America/New_York', 'Australia/Lord_Howe');
const time = fc.integer({ min: Date.UTC(2024, 0), max: Date.UTC(2030, 0) });

suite('when accounts are polled', () => {
  test('each time is one of the expression and a stable offset, later than the last, and none is left out', () => {
    fc.assert(
      fc.property(expression, zone, fc.string(), time, ([cron, spread], timezone, account, start) => {
        const clock = timezone === undefined ? new CronTime(cron) : new CronTime(cron, timezone);
        const offset = offsetOf(account, spread);
        let bare = start - offset;
        let last = start;
        for (let count = 0; count < 6; count += 1) {
          const poll = nextCronTime(cron, timezone, account, last);
          bare = clock.getNextDateFrom(new Date(bare)).toMillis();
          assert.equal(poll, bare + offset);
          assert.ok(poll > last);
          last = poll;
        }
      }),
      { numRuns: 300 },
    );
  });

  test('a time that has just passed still has its turn', () => {
    const hour = Date.UTC(2026, 0, 1, 10);
    const offset = offsetOf('old-isp', 30_000);
    assert.equal(nextCronTime('0 * * * *', 'UTC', 'old-isp', hour), hour + offset);
    assert.equal(nextCronTime('0 * * * *', 'UTC', 'old-isp', hour + offset), hour + 3_600_000 + offset);
  });

  test('accounts are spread', () => {
    const offsets = Array.from({ length: 1000 }, (_, index) => offsetOf(`account-${index}`, 10));
    for (let part = 0; part < 10; part += 1) {
      const share = offsets.filter((offset) => offset === part).length;
      assert.ok(share > 60 && share < 140, `${share} of 1000`);
    }
    assert.equal(offsetOf('a', 0), 0);
  });

  test('over a long while they are spread in groups', () => {
    const offsets = Array.from({ length: 10_000 }, (_, index) => offsetOf(`account-${index}`, 60_000));
    const groups = Map.groupBy(offsets, (offset) => offset);
    assert.equal(groups.size, 240);
    assert.ok(offsets.every((offset) => offset % 250 === 0));
    const largest = Math.max(...[...groups.values()].map(({ length }) => length));
    assert.ok(largest < 80, `${largest} of 10,000 at a time`);
  });
});
