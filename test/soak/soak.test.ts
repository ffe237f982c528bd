// Many accounts, mail that keeps coming, two workers, and all faults at random: nothing is lost, what is repeated is flagged, and
// nothing piles up. SOAK_MINUTES sets for how long (npm run test:soak: 30), SOAK_ACCOUNTS how many accounts, SOAK_SEED the faults.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { Clock } from '../support/clock.ts';
import { seeded } from '../support/corpus.ts';
import { startHttpSink } from '../support/http-sink.ts';
import type { HttpAction } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';
import type { LogLine, RunningWorker } from '../support/mailferry.ts';
import { assertNothingLost, assertRepeatsFlagged, expireLeases, hookIds, mail, smtpIds } from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import type { Rule } from '../support/pop3-session.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import type { SmtpAction, SmtpStage } from '../support/smtp-sink.ts';

const MINUTES = Number(process.env['SOAK_MINUTES'] ?? 0.35);
const ACCOUNTS = Number(process.env['SOAK_ACCOUNTS'] ?? 20);
const SEED = Number(process.env['SOAK_SEED'] ?? 1);
const MINUTE = 60_000;
/** How fast the programs' clock goes, so that their waits pass. */
const HURRY = 30;
/** Below this many samples of the memory a slope says nothing. */
const SAMPLES = 200;

const POP3_FAULTS: readonly Rule[] = [
  { on: /^RETR/, cutAfter: 100 },
  { on: /^RETR/, resetAfter: 300 },
  { on: /^RETR/, stallAfter: 50 },
  { on: /^RETR/, reply: '-ERR cannot read it' },
  { on: /^PASS/, reply: '-ERR [SYS/TEMP] later' },
  { on: /^PASS/, reply: '-ERR [IN-USE] later' },
  { on: /^(UIDL|LIST)$/, cutAfter: 20 },
  { on: /^DELE/, reply: '-ERR no' },
  { on: /^DELE/, cutAfter: 0, still: true },
  { on: /^QUIT/, cutAfter: 0, still: true },
  { on: /^QUIT/, cutAfter: 0 },
  { on: /^QUIT/, reply: '-ERR some deleted messages not removed' },
];
const SMTP_FAULTS: readonly { readonly stage: SmtpStage; readonly action: SmtpAction }[] = [
  { stage: 'connect', action: { reply: [421, '4.3.2 later'] } },
  { stage: 'mail', action: { reply: [451, '4.3.0 later'] } },
  { stage: 'rcpt', action: { reply: [450, '4.2.0 later'] } },
  { stage: 'body', action: 'drop' },
  { stage: 'end', action: { reply: [452, '4.2.2 later'] } },
  { stage: 'end', action: 'drop' },
];
const HTTP_FAULTS: readonly HttpAction[] = [
  { status: 503 },
  { status: 429, headers: { 'retry-after': '30' } },
  'dropAtHeader',
  'dropAfterBody',
];

test(
  `${String(ACCOUNTS)} accounts for ${String(MINUTES)} minutes`,
  { skip: redisAvailable() ?? false, timeout: 180_000 + MINUTES * 2 * MINUTE },
  async (t) => {
    const random = seeded(SEED);
    const oneOf = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
    const users = Array.from({ length: ACCOUNTS }, (_, index) => `a${String(index)}`);
    const pop3 = await startPop3Server({ users: Object.fromEntries(users.map((user) => [user, 'secret'])) }, t);
    const hook = await startHttpSink({ keep: 100_000 });
    t.after(() => hook.close());
    const inbox = await startSmtpSink();
    t.after(() => inbox.close());
    const redis = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
    t.after(() => redis.stop());
    const mailferry = await Mailferry.create(t, {
      redis: { socket: redis.socket },
      log: { level: 'info' },
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
        every: '10s',
        timeout: '3s',
        deliverTo: ['inbox', 'hook'],
        retention: 'delete',
        firstPoll: 'deliver',
        giveUpAfter: '365d',
      },
      accounts: Object.fromEntries(users.map((user) => [user, { user, password: 'secret' }])),
    });
    const clock = await Clock.of(mailferry);
    const sent: TestMail[] = [];
    const log: LogLine[] = [];
    const memory: [seconds: number, megabytes: number][][] = [[], []];
    const start = (): RunningWorker => mailferry.start();
    const workers: RunningWorker[] = [start(), start()];
    t.after(async () => {
      for (const worker of workers) if (worker.running) await worker.kill9();
    });
    const counts = { kills: 0, restarts: 0, faults: 0 };
    const lifts: (() => void)[] = [];

    const began = performance.now();
    const end = began + MINUTES * MINUTE;
    let nextFault = began + 3000;
    let nextKill = began + 5000;
    let nextRestart = began + 8000;
    let nextSecond = began + 1000;
    let number = 0;
    while (performance.now() < end) {
      const now = performance.now();
      const user = oneOf(users);
      number += 1;
      const one = mail(`soak.${String(number)}`, 500 + Math.floor(random() * 6000));
      sent.push(one);
      pop3.drop(user).add({ octets: one.octets, uniqueId: `${user}-${String(number)}` });
      if (now >= nextFault) {
        nextFault = now + 300 + random() * 500;
        counts.faults += 1;
        const times = 1 + Math.floor(random() * 4);
        const where = random();
        if (where < 0.4) lifts.push(pop3.rule({ ...oneOf(POP3_FAULTS), times }));
        else if (where < 0.65) lifts.push(inbox.when({ ...oneOf(SMTP_FAULTS), times }));
        else if (where < 0.9) lifts.push(hook.when({ action: oneOf(HTTP_FAULTS), times }));
        else if (where < 0.94) pop3.dropAll();
        else if (where < 0.97) inbox.dropAll();
        else hook.dropAll();
      }
      if (now >= nextKill) {
        nextKill = now + (MINUTES > 5 ? 60_000 : 4000);
        // In the long form the first lives to the end, for its memory to be looked at.
        const which = MINUTES > 5 || random() < 0.5 ? 1 : 0;
        const victim = workers[which] as RunningWorker;
        await victim.kill9();
        log.push(...victim.lines);
        counts.kills += 1;
        await withRedis(redis.socket, expireLeases);
        workers[which] = start();
        memory[which] = [];
      }
      if (now >= nextRestart) {
        nextRestart = now + (MINUTES > 5 ? 120_000 : 7000);
        if (random() < 0.5) await redis.kill9();
        await redis.restart();
        counts.restarts += 1;
      }
      if (now >= nextSecond) {
        nextSecond = now + 1000;
        await clock.advance((HURRY - 1) * 1000);
        workers.forEach((worker, which) => {
          const megabytes = residentMegabytes(worker.child.pid);
          if (megabytes > 0) memory[which]?.push([(now - began) / 1000, megabytes]);
        });
      }
      await sleep(MINUTES > 5 ? 100 : 25);
    }

    for (const lift of lifts) lift();
    pop3.behaviour.rules.length = 0;
    const open = workers.map((worker) => openFiles(worker.child.pid));
    for (const worker of workers) {
      assert.equal(await worker.stop(), 0, worker.noise);
      log.push(...worker.lines);
    }
    await withRedis(redis.socket, expireLeases);
    const left = (): number => users.reduce((sum, user) => sum + pop3.drop(user).messages.length, 0);
    for (let rounds = 0; left() > 0; rounds += 1) {
      assert(rounds < 30, `${String(left())} messages are left`);
      await clock.advance(60 * MINUTE);
      const { stderr } = await mailferry.run('sync');
      log.push(...parsed(stderr));
    }

    assertNothingLost(sent, [], hookIds(hook), smtpIds(inbox));
    const repeats = assertRepeatsFlagged({ hook, inbox }, log);
    assert.deepEqual(await readdir(join(mailferry.dataDir, 'spool')), [], 'the spool is empty');
    const keys = await withRedis(redis.socket, async (connection) => await connection.dbsize());
    assert(keys <= 12 * ACCOUNTS + 60, `${String(keys)} keys in Redis`);
    assert(
      open.every((count) => count < 60 + 4 * ACCOUNTS),
      `open files and sockets: ${open.join(', ')}`,
    );
    t.diagnostic(
      `${String(sent.length)} messages, ${String(counts.faults)} faults, ${String(counts.kills)} kills, ` +
        `${String(counts.restarts)} restarts of Redis; ${String(repeats.length)} deliveries repeated, all in doubt; ` +
        `${String(keys)} keys, open files ${open.join(' and ')}`,
    );
    for (const samples of memory) {
      const settled = samples.slice(Math.floor(samples.length / 3));
      if (settled.length < SAMPLES) continue;
      const slope = slopeOf(settled) * 60;
      t.diagnostic(
        `memory: ${slope.toFixed(2)} MB a minute, ${Math.max(...settled.map(([, mb]) => mb)).toFixed(0)} MB at most`,
      );
      assert(slope < 3, `memory grows by ${slope.toFixed(2)} MB a minute`);
    }
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

function parsed(text: string): LogLine[] {
  return text.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as LogLine] : []));
}

function residentMegabytes(pid: number | undefined): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0; // it was killed just now, or this is no Linux
  }
}

function openFiles(pid: number | undefined): number {
  try {
    return readdirSync(`/proc/${String(pid)}/fd`).length;
  } catch {
    return 0;
  }
}

/** Least squares. */
function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / points.length;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / points.length;
  const over = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  return over / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
}
