/**
 * Many accounts with nothing new: what a worker costs that polls them all day, and how late the polls begin, by their place in the
 * schedule. `npm run bench -- --idle [--accounts 10000] [--every 1m] [--minutes 3] [--rtt 40] [--seen 10] [--tls]` prints a table.
 */

import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer } from 'node:tls';
import { parseArgs, promisify } from 'node:util';
import { offsetOf } from '../src/sync/schedule.ts';
import { caFile, certificate } from '../test/support/tls.ts';

const { values } = parseArgs({
  options: {
    accounts: { type: 'string', default: '10000' },
    every: { type: 'string', default: '1m' },
    minutes: { type: 'string', default: '3' },
    rtt: { type: 'string', default: '40' },
    seen: { type: 'string', default: '10' },
    tls: { type: 'boolean', default: false },
    out: { type: 'string', default: process.env['BENCH_OUT'] ?? join(tmpdir(), 'mailferry-bench') },
    /** Internal: end TLS in front of this port. */
    front: { type: 'string' },
  },
});

const run = promisify(execFile);
const MAIN = join(import.meta.dirname, '../src/main.ts');
const MINUTE = 60_000;
/** Clock ticks a second of /proc, as Linux has them everywhere. */
const TICKS = 100;
/** The schedule is caught up with when none of so many polls is later than so many milliseconds. */
const LATEST = 500;
const CAUGHT_UP = 1000;
/** For all accounts to be polled once; that poll makes the ledgers. */
const FIRST_CYCLE = 10 * MINUTE;

if (values.front === undefined) await measure();
else await endTls(Number(values.front));

async function measure(): Promise<void> {
  const count = Number(values.accounts);
  const period = periodOf(values.every);
  const dir = await mkdtemp(join(tmpdir(), 'mailferry-idle-'));
  const children: ChildProcess[] = [];
  try {
    const server = ['--users', values.accounts, '--messages', values.seen, '--rtt', values.rtt, '--pass', 'secret'];
    let port = await listening(start(children, join(values.out, 'bin', 'pop3d'), server));
    if (values.tls)
      port = await listening(start(children, process.execPath, [import.meta.filename, '--front', String(port)]));
    await writeFile(join(dir, 'mailferry.yaml'), configOf(dir, count, port), { mode: 0o600 });
    const began = performance.now();
    const worker = start(children, process.execPath, [MAIN, '--config', join(dir, 'mailferry.yaml'), 'run']);
    const polled = new Set<string>();
    const latest: number[] = [];
    let late: number[] | undefined;
    let failed = 0;
    createInterface({ input: worker.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      if (!line.startsWith('{')) return;
      const { msg, account, time, milliseconds } = JSON.parse(line) as Record<string, unknown>;
      if (msg === 'poll failed') failed += 1;
      if (msg !== 'polled' || typeof account !== 'string') return;
      polled.add(account);
      const begun = Date.parse(String(time)) - Number(milliseconds);
      const lateness = latenessOf(begun, account, period);
      latest.push(lateness);
      if (latest.length > LATEST) latest.shift();
      late?.push(lateness);
    });
    while (polled.size < count) {
      if (worker.exitCode !== null || performance.now() - began > FIRST_CYCLE)
        throw new Error(`${String(polled.size)} polled, then no more`);
      await sleep(200);
    }
    const first = (performance.now() - began) / 1000;
    // What the start has delayed is made up for before anything is counted.
    await sleep(period);
    while (latest.some((lateness) => lateness > CAUGHT_UP) && performance.now() - began < FIRST_CYCLE)
      await sleep(1000);
    const caughtUp = (performance.now() - began) / 1000;
    const redis = await childOf(worker);
    const before = { worker: cpuOf(worker.pid), redis: cpuOf(redis), at: performance.now() };
    late = [];
    await sleep(Number(values.minutes) * MINUTE);
    const found = late.toSorted((a, b) => a - b);
    const seconds = (performance.now() - before.at) / 1000;
    const percent = (ticks: number, since: number): string => (((ticks - since) / TICKS / seconds) * 100).toFixed(1);
    const at = (part: number): string =>
      ((found[Math.floor((found.length - 1) * part)] ?? Number.NaN) / 1000).toFixed(2);
    process.stdout.write(
      `${values.accounts} accounts every ${values.every}, ${values.seen} kept messages each, round trip ${values.rtt} ms` +
        `${values.tls ? ', TLS' : ''}, ${values.minutes} minutes; the first polls of all took ${first.toFixed(0)} s, all was on time after ${caughtUp.toFixed(0)} s\n\n` +
        `| polls | due | failed | late by s, p50 | p99 | most | worker, % of a core | Redis, % | worker MB | Redis MB |\n` +
        `|---|---|---|---|---|---|---|---|---|---|\n` +
        `| ${[
          found.length,
          Math.round((count * seconds * 1000) / period),
          failed,
          at(0.5),
          at(0.99),
          at(1),
          percent(cpuOf(worker.pid), before.worker),
          percent(cpuOf(redis), before.redis),
          megabytesOf(worker.pid),
          megabytesOf(redis),
        ].join(' | ')} |\n`,
    );
  } finally {
    for (const child of children.toReversed()) {
      const ended = once(child, 'exit');
      if (child.exitCode === null && child.kill()) await ended;
    }
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

function configOf(dir: string, count: number, port: number): string {
  const security = values.tls ? `tls, caFile: ${caFile}, serverName: localhost` : 'none';
  return [
    `dataDir: ${join(dir, 'data')}`,
    // Each poll is a line, from which its lateness is taken: the worker pays for that as well.
    'log: { level: debug }',
    'destinations: { out: { type: maildir, path: mail } }',
    `defaults: { host: 127.0.0.1, port: ${String(port)}, security: ${security}, every: ${values.every},`,
    '  deliverTo: [out], retention: keep, firstPoll: skip }',
    'accounts:',
    ...Array.from(
      { length: count },
      (_, index) => `  u${String(index + 1)}: { user: u${String(index + 1)}, password: secret }`,
    ),
    '',
  ].join('\n');
}

function start(children: ChildProcess[], command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return child;
}

/** The port that a server says it listens on. */
async function listening(child: ChildProcess): Promise<number> {
  const [line] = (await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line')) as [string];
  return (JSON.parse(line) as { port: number }).port;
}

/** Ends TLS in front of a server that has none. */
async function endTls(port: number): Promise<void> {
  const server = createServer(certificate('server'), (socket) => {
    const behind = connect(port, '127.0.0.1');
    for (const [one, other] of [
      [socket, behind],
      [behind, socket],
    ] as const) {
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1', 4096);
  await once(server, 'listening');
  process.stdout.write(`${JSON.stringify(server.address())}\n`);
}

/** How long behind its time a poll began; a little before it, where clocks and rounding say so. Milliseconds. */
function latenessOf(time: number, account: string, period: number): number {
  const late = (time - offsetOf(account, period)) % period;
  return late > period * 0.95 ? late - period : late;
}

function periodOf(text: string): number {
  const [, amount = '', unit = ''] = /^(\d+)([sm])$/.exec(text) ?? [];
  return Number(amount) * (unit === 'm' ? MINUTE : 1000);
}

async function childOf({ pid }: ChildProcess): Promise<number> {
  const { stdout } = await run('pgrep', ['-P', String(pid), 'redis-server']);
  return Number(stdout.trim());
}

function cpuOf(pid: number | undefined): number {
  const fields = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

function megabytesOf(pid: number | undefined): number {
  return Math.round(
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1] ?? 0) / 1024,
  );
}
