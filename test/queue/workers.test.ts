// Workers that run with different configs: seen and warned of, once, and only if it lasts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { differingWorkers, runningWorkers, Workers } from '../../src/queue/workers.ts';
import type { WorkerFacts, WorkerSign } from '../../src/queue/workers.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';

const FACTS: WorkerFacts = { host: 'h', pid: 1, version: '1', accounts: 2, digest: 'aaaa', problem: '' };
const SIGN: WorkerSign = { ...FACTS, at: 100_000, since: 0, problemSince: 0 };

test('configs differ only once both have run for the time of patience', () => {
  const other = { ...SIGN, digest: 'bbbb', since: 50_000 };
  assert.deepEqual(differingWorkers([SIGN, other], 100_000, 60_000), []);
  assert.equal(differingWorkers([SIGN, other], 110_000, 60_000).length, 2);
  assert.deepEqual(differingWorkers([SIGN, { ...other, digest: 'aaaa' }], 200_000, 60_000), [], 'the same config');
  assert.deepEqual(differingWorkers([SIGN, { ...other, version: '2' }], 200_000, 60_000), [], 'another version');
  assert.deepEqual(differingWorkers([SIGN], 200_000, 60_000), []);
});

test(
  'two workers that differ warn once each, and say when it is over',
  { skip: redisAvailable() ?? false },
  async (t) => {
    const server = await startRedis();
    const redis = new Redis(server.socket, { replyMapping: 'legacy' });
    const said: string[] = [];
    const digests = ['aaaa', 'aaaa'];
    const workers = digests.map((_, index) => {
      const name = `worker${String(index)}`;
      return new Workers(redis, {
        facts: () => ({ ...FACTS, host: name, digest: digests[index] ?? '' }),
        onDiffer: (lines) => said.push(`${name}: ${String(lines.length)}`),
        onAgree: () => said.push(`${name} agrees`),
        onError: (error) => assert.fail(String(error)),
        period: 5,
        patience: 100,
      });
    });
    for (const worker of workers) await worker.start();
    t.after(async () => {
      for (const worker of workers) await worker.stop();
      redis.disconnect();
      await server.stop();
    });
    assert.equal((await runningWorkers(redis)).workers.length, 2);
    digests[1] = 'bbbb';
    await until(() => said.length === 2, { what: 'both warn' });
    for (const worker of workers) for (let beats = 0; beats < 5; beats += 1) await worker.beat();
    assert.deepEqual(said.toSorted(), ['worker0: 2', 'worker1: 2'], 'once each');
    digests[0] = 'bbbb';
    await until(() => said.length === 4, { what: 'it is over' });
    assert.deepEqual(said.slice(2).toSorted(), ['worker0 agrees', 'worker1 agrees']);
    await workers[0]?.stop();
    assert.equal((await runningWorkers(redis)).workers.length, 1, 'one that stops is gone at once');
  },
);
