// Many accounts, mail that keeps coming, two workers, and all faults at random: nothing is lost, what is repeated is flagged, and
// nothing piles up. SOAK_MINUTES sets for how long (npm run test:soak: 30), SOAK_ACCOUNTS how many accounts, SOAK_SEED the faults.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { Clock } from '../support/clock.ts';
import { seeded } from '../support/corpus.ts';
import { startHttpSink } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';
import type { LogLine, RunningWorker } from '../support/mailferry.ts';
import {
  assertNothingLost,
  assertRepeatsFlagged,
  assertUnchanged,
  expireLeases,
  hookIds,
  mail,
  smtpIds,
} from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { until } from '../support/wait.ts';
import { Faults } from './faults.ts';
import { heapOf, openFiles, residentMegabytes, trendOf } from './footprint.ts';
import type { Sample } from './footprint.ts';

const MINUTES = Number(process.env['SOAK_MINUTES'] ?? 0.35);
const ACCOUNTS = Number(process.env['SOAK_ACCOUNTS'] ?? 20);
const SEED = Number(process.env['SOAK_SEED'] ?? 1);
const MINUTE = 60_000;
const IS_LONG = MINUTES > 5;
/** Milliseconds between two events of a kind. The programs' clock goes `hurry` times as fast, so that their waits pass. */
const PACE = IS_LONG
  ? {
      hurry: 5,
      every: '60s',
      arrival: 100,
      fault: 700,
      kill: MINUTE,
      freeze: 5 * MINUTE,
      frozen: 40_000,
      redis: 2 * MINUTE,
    }
  : { hurry: 30, every: '10s', arrival: 25, fault: 300, kill: 4000, freeze: 9000, frozen: 1500, redis: 7000 };
/** Deliveries of one worker at a time to both destinations together: the defaults of their `concurrency`, and by SMTP one more announced on each connection. */
const IN_FLIGHT = 2 * 5 + 10;
/** Below this many samples of the memory a slope says nothing. */
const SAMPLES = 600;
/** Every ten seconds one. */
const HEAP_SAMPLES = 24;
/** Megabytes from the first sample to the last. */
const HEAP_GROWTH = 2;
const HEAP = join(import.meta.dirname, '../support/heap.mjs');

test(
  `${String(ACCOUNTS)} accounts for ${String(MINUTES)} minutes`,
  { skip: redisAvailable() ?? false, timeout: 240_000 + MINUTES * 2 * MINUTE },
  async (t) => {
    const random = seeded(SEED);
    const users = Array.from({ length: ACCOUNTS }, (_, index) => `a${String(index)}`);
    const pop3 = await startPop3Server({ users: Object.fromEntries(users.map((user) => [user, 'secret'])) }, t);
    const hook = await startHttpSink({ keep: 1_000_000 });
    t.after(() => hook.close());
    const inbox = await startSmtpSink();
    t.after(() => inbox.close());
    const redis = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    t.after(() => redis.stop());
    const mailferry = await Mailferry.create(t, {
      redis: { socket: redis.socket },
      log: { level: 'info' },
      // A few large messages fill it.
      spoolBudget: '1MB',
      destinations: {
        inbox: {
          type: 'smtp',
          host: '127.0.0.1',
          port: inbox.port,
          security: 'none',
          to: ['me@example.com'],
          from: 'fwd@example.com',
        },
        hook: { type: 'webhook', url: hook.url, allowPrivate: true },
      },
      defaults: {
        host: '127.0.0.1',
        port: pop3.port,
        security: 'none',
        every: PACE.every,
        timeout: '3s',
        deliverTo: ['inbox', 'hook'],
        retention: 'delete',
        firstPoll: 'deliver',
        giveUpAfter: '365d',
      },
      accounts: Object.fromEntries(users.map((user) => [user, { user, password: 'secret' }])),
    });
    const clock = await Clock.of(mailferry);
    const heapFile = join(mailferry.dir, 'heap');
    mailferry.env['MAILFERRY_TEST_HEAP'] = heapFile;
    mailferry.env['NODE_OPTIONS'] += ` --import=${HEAP}`;
    const faults = new Faults({ pop3, inbox, hook }, random);
    const sent: TestMail[] = [];
    const ended: RunningWorker[] = [];
    const memory: [Sample[], Sample[]] = [[], []];
    const counts = { kills: 0, freezes: 0, restarts: 0 };
    const workers: [RunningWorker, RunningWorker] = [mailferry.start(), mailferry.start()];
    t.after(async () => {
      for (const worker of workers) if (worker.running) await worker.kill9();
    });
    const log = (): LogLine[] => [...ended, ...workers].flatMap(({ lines }) => lines);

    // A worker at rest: every account was polled, and there was nothing.
    await until(() => pop3.count(/^QUIT/) >= ACCOUNTS, { timeout: MINUTE, interval: 100 });
    const fewest = [Infinity, Infinity];
    for (let looks = 0; looks < 20; looks += 1) {
      await sleep(100);
      workers.forEach(({ child }, which) => (fewest[which] = Math.min(fewest[which] ?? 0, openFiles(child.pid))));
    }
    const atRest = { files: Math.max(...fewest), keys: await withRedis(redis.socket, (each) => each.dbsize()) };

    /** Half a minute passes for what the killed one held; in the long form it really does. */
    const forgetHolders = async (): Promise<void> => {
      if (!IS_LONG) await withRedis(redis.socket, expireLeases);
    };
    const began = performance.now();
    const due = (next: { at: number }, period: number): boolean => {
      if (performance.now() < next.at) return false;
      next.at = performance.now() + period * (0.5 + random());
      return true;
    };
    const next = Object.fromEntries(
      Object.entries(PACE).map(([name, period]) => [name, { at: began + Number(period) }]),
    ) as Record<keyof typeof PACE, { at: number }>;
    const second = { at: began };
    let thawAt = Infinity;
    for (let number = 0; performance.now() < began + MINUTES * MINUTE; number += 1) {
      const user = users[Math.floor(random() * users.length)] ?? '';
      const one = mail(`soak.${String(number)}`, number % 100 === 50 ? 300_000 : 500 + Math.floor(random() * 6000));
      sent.push(one);
      pop3.drop(user).add({ octets: one.octets, uniqueId: `${user}-${String(number)}` });
      if (due(next.fault, PACE.fault)) faults.strike();
      // The first lives to the end, for its memory to be looked at.
      if (thawAt === Infinity && due(next.kill, PACE.kill)) {
        await workers[1].kill9();
        ended.push(workers[1]);
        counts.kills += 1;
        await forgetHolders();
        workers[1] = mailferry.start();
        memory[1] = [];
      } else if (thawAt === Infinity && due(next.freeze, PACE.freeze)) {
        workers[1].child.kill('SIGSTOP');
        thawAt = performance.now() + PACE.frozen;
        counts.freezes += 1;
        await forgetHolders();
      } else if (performance.now() > thawAt) {
        workers[1].child.kill('SIGCONT');
        thawAt = Infinity;
      }
      if (due(next.redis, PACE.redis)) {
        if (random() < 0.5) await redis.kill9();
        await redis.restart();
        counts.restarts += 1;
      }
      if (performance.now() >= second.at) {
        second.at = performance.now() + 1000;
        await clock.advance((PACE.hurry - 1) * 1000);
        workers.forEach(({ child }, which) => {
          const megabytes = residentMegabytes(child.pid);
          if (megabytes > 0) memory[which]?.push([(performance.now() - began) / 1000, megabytes]);
        });
      }
      await sleep(PACE.arrival);
    }

    workers[1].child.kill('SIGCONT');
    faults.end();
    const trends = memory.flatMap((samples) => {
      const settled = samples.slice(Math.floor(samples.length / 3));
      return settled.length < SAMPLES ? [] : [trendOf(settled)];
    });
    for (const { seconds, growth, noise, mean, peak } of trends) {
      t.diagnostic(
        `memory over ${seconds.toFixed(0)} s: ${growth.toFixed(1)} MB more, ` +
          `±${noise.toFixed(1)} around ${mean.toFixed(0)}, at most ${peak.toFixed(0)} MB`,
      );
    }
    /** The clock goes on until it is so. */
    const inTheEnd = async (
      step: number,
      isSo: () => boolean | Promise<boolean>,
      what: () => string,
    ): Promise<void> => {
      const limit = performance.now() + 2 * MINUTE;
      while (!(await isSo())) {
        assert(performance.now() < limit, what());
        await clock.advance(step);
        await sleep(1000);
      }
    };
    const left = (): number => users.reduce((sum, user) => sum + pop3.drop(user).messages.length, 0);
    await inTheEnd(
      30 * MINUTE,
      () => left() === 0,
      () => `${String(left())} messages are left on the server`,
    );
    assertNothingLost(sent, [], hookIds(hook), smtpIds(inbox));
    assertUnchanged(sent, { hook, inbox });

    let rows = 0;
    await inTheEnd(
      8 * 60 * MINUTE,
      async () => (rows = await withRedis(redis.socket, rowsOf)) === 0,
      () => `${String(rows)} messages are not forgotten`,
    );
    const now = (): number[] => workers.map(({ child }) => openFiles(child.pid));
    await until(() => now().every((count) => count <= atRest.files), {
      timeout: MINUTE,
      what: `as many open files as a worker at rest has: ${String(atRest.files)}`,
    }).catch((error: unknown) => assert.fail(`${String(error)}, not ${now().join(' and ')}`));
    for (const worker of workers) assert.equal(await worker.stop(), 0, worker.noise);
    assert.deepEqual(await readdir(join(mailferry.dataDir, 'spool')), [], 'the spool is empty');
    const keys = await withRedis(redis.socket, (each) => each.dbsize());
    // The trail of each account, and what BullMQ keeps of jobs that stalled.
    assert(keys <= atRest.keys + 2 * ACCOUNTS + 120, `${String(keys)} keys in Redis, ${String(atRest.keys)} at rest`);

    const repeats = assertRepeatsFlagged({ hook, inbox }, log());
    const repeated = repeats.reduce((sum, { times }) => sum + times, 0);
    // A worker that ends or loses its leases, and a destination that hangs up on both.
    const windows = (counts.kills + counts.freezes) * (IS_LONG ? 1 : 2) + faults.hangUps * 2;
    assert(repeated <= windows * IN_FLIGHT, `${String(repeated)} repeated in ${String(windows)} windows`);
    t.diagnostic(
      `${String(sent.length)} messages, ${String(faults.count)} faults, ${String(counts.kills)} kills, ` +
        `${String(counts.freezes)} freezes, ${String(counts.restarts)} restarts of Redis; ` +
        `${String(repeated)} deliveries repeated in ${String(windows)} windows, all in doubt`,
    );
    t.diagnostic(
      `at rest ${String(atRest.files)} open files and ${String(atRest.keys)} keys, ` +
        `in the end ${String(keys)} keys`,
    );
    // What is in use tells of a leak. The process keeps more after each burst than it needs: that is bounded, and levels off.
    const inUse = heapOf(heapFile, workers[0].child.pid);
    if (inUse.length >= HEAP_SAMPLES) {
      const { growth, noise, mean } = trendOf(inUse.slice(Math.floor(inUse.length / 3)));
      t.diagnostic(
        `in use after collecting garbage: ${growth.toFixed(2)} MB more, ±${noise.toFixed(2)} around ${mean.toFixed(1)} MB`,
      );
      assert(growth < HEAP_GROWTH, `more and more is in use: ${growth.toFixed(1)} MB`);
    }
    for (const { peak } of trends) assert(peak < 400, `${peak.toFixed(0)} MB at most`);
  },
);

async function withRedis<T>(socket: string, work: (redis: Redis) => Promise<T>): Promise<T> {
  const connection = new Redis(socket, { replyMapping: 'legacy', maxRetriesPerRequest: 20 });
  connection.on('error', () => undefined);
  try {
    return await work(connection);
  } finally {
    connection.disconnect();
  }
}

/** How many messages the ledgers know. */
async function rowsOf(redis: Redis): Promise<number> {
  const hashes = [...(await redis.keys('mailferry:*:open')), ...(await redis.keys('mailferry:*:settled'))];
  const counts = await Promise.all(hashes.map(async (key) => await redis.hlen(key)));
  return counts.reduce((sum, count) => sum + count, 0);
}
