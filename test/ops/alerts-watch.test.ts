// Alerts at work on a real Redis: several workers say a thing once, and what is not taken is given up in the end.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import type { Outcome } from '../../src/delivery/destination.ts';
import type { Facts } from '../../src/ops/alerts.ts';
import { Alerts } from '../../src/ops/alerts-watch.ts';
import { ProcessEvents } from '../../src/ops/events.ts';
import type { LogLine } from '../support/mailferry.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';

const TAKEN: Outcome = { kind: 'confirmed', said: '250 taken', scope: 'message' };
const LATER: Outcome = { kind: 'deferred', said: '451 later', scope: 'message' };

describe('alerts at work', { skip: redisAvailable() ?? false }, () => {
  let server: RunningRedis;
  let redis: Redis;
  let now = 0;
  let facts: Facts;
  let lines: LogLine[] = [];
  let sent: string[] = [];
  let answer: (destination: string) => Outcome | undefined;
  before(async () => {
    server = await startRedis();
    redis = new Redis(server.socket, { replyMapping: 'legacy' });
  });
  after(async () => {
    redis.disconnect();
    await server.stop();
  });
  beforeEach(async () => {
    await redis.flushall();
    now = 1_800_000_000_000;
    facts = { accounts: [{ name: 'isp', trouble: undefined, quarantined: 1 }], destinations: [] };
    lines = [];
    sent = [];
    answer = () => TAKEN;
  });

  function worker(deliverTo: readonly string[] = ['me']): Alerts {
    const log = pino({ base: {} }, { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) });
    return new Alerts({
      redis,
      events: new ProcessEvents(log),
      hostName: 'host',
      now: () => now,
      settings: () => ({ deliverTo, after: 600_000, from: undefined }),
      facts: () => Promise.resolve(facts),
      deliver: (alert, destination, attempt) => {
        sent.push(`${destination} ${attempt} ${alert.subject}`);
        return Promise.resolve(answer(destination));
      },
    });
  }

  /** What the passing of a minute does: the claim of the last look runs out. */
  async function minute(...workers: readonly Alerts[]): Promise<void> {
    now += 60_000;
    await redis.del('mailferry:{alerts}:look');
    await Promise.all(workers.map(async (each) => await each.look()));
  }

  function logged(msg: string): LogLine[] {
    return lines.filter((line) => line.msg === msg);
  }

  test('many workers that look at the same time say it once', async () => {
    const workers = Array.from({ length: 8 }, () => worker());
    for (let round = 0; round < 5; round++) await minute(...workers);
    assert.deepEqual(sent, ['me 1 [mailferry] account isp needs a person']);
    assert.equal(logged('alert').length, 1);
    assert.equal(logged('alert delivered').length, 1);
  });

  test('what is not taken is tried again, less and less often, and given up', async () => {
    answer = () => LATER;
    const alerts = worker();
    const times: number[] = [];
    for (let minutes = 1; minutes <= 400; minutes++) {
      const before = sent.length;
      await minute(alerts);
      if (sent.length > before) times.push(minutes);
    }
    assert.deepEqual(times, [1, 2, 4, 8, 16, 32, 64, 128]);
    assert.equal(logged('alert given up').length, 1);
    assert.equal(logged('alert').length, 1, 'and nothing is said about it');
    assert.deepEqual(await redis.hkeys('mailferry:{alerts}'), ['said account isp quarantine']);
  });

  test('each destination gets it once, however often another does not take it', async () => {
    answer = (destination) => (destination === 'me' ? TAKEN : LATER);
    const alerts = worker(['me', 'you']);
    for (let minutes = 1; minutes <= 5; minutes++) await minute(alerts);
    answer = () => TAKEN;
    for (let minutes = 1; minutes <= 5; minutes++) await minute(alerts);
    assert.deepEqual(
      sent.map((each) => each.slice(0, 5)),
      ['me 1 ', 'you 1', 'you 2', 'you 3', 'you 4'],
    );
  });

  test('one whose destinations are all paused is told of in the log', async () => {
    answer = () => undefined;
    await minute(worker());
    assert.equal(logged('alert not delivered: every destination for alerts is paused itself').length, 1);
  });

  test('a worker that died amid a look holds up the others for minutes, not for ever', async () => {
    await redis.set('mailferry:{alerts}:look', 'a dead one', 'PX', 300_000);
    await worker().look();
    assert.deepEqual(sent, []);
    await minute(worker());
    assert.equal(sent.length, 1);
  });

  test('a failure in the delivery is no failure of the worker', async () => {
    answer = () => {
      throw new Error('no such thing');
    };
    await minute(worker());
    assert.equal(logged('alert not delivered')[0]?.['said'], 'no such thing');
  });
});
