/**
 * Many accounts with nothing new: what a worker costs that polls them all day, and how late the polls begin, by the server's
 * clock and the account's place in the schedule. Prints a table.
 * `npm run bench -- --idle [--accounts 10000] [--every 1m] [--minutes 3] [--rtt 40] [--seen 10] [--tls]`
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
import type { Interface } from 'node:readline';
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
/** For all accounts to be polled once; that poll makes the ledgers. Seconds. */
const FIRST_CYCLE = 600;

async function measure(): Promise<void> {
  const count = Number(values.accounts);
  const period = periodOf(values.every);
  const dir = await mkdtemp(join(tmpdir(), 'mailferry-idle-'));
  const children: ChildProcess[] = [];
  try {
    const options = ['--users', values.accounts, '--messages', values.seen, '--rtt', values.rtt, '--pass', 'secret'];
    const visits = new Visits(period);
    const server = start(children, join(values.out, 'bin', 'pop3d'), [...options, '--visits']);
    let port = await listening(server, (line) => visits.take(line));
    const front = values.tls
      ? start(children, process.execPath, [import.meta.filename, '--front', String(port)])
      : undefined;
    if (front) port = await listening(front);
    await writeFile(join(dir, 'mailferry.yaml'), configOf(dir, count, port), { mode: 0o600 });
    const began = performance.now();
    const sinceBegin = (): number => Math.round((performance.now() - began) / 1000);
    const worker = start(children, process.execPath, [MAIN, '--config', join(dir, 'mailferry.yaml'), 'run']);
    let failed = 0;
    let scheduled = 0;
    linesOf(worker).on('line', (line) => {
      if (line.includes('"schedules set"')) scheduled = sinceBegin();
      if (line.includes('"poll failed"')) failed += 1;
    });
    while (visits.accounts < count) {
      if (worker.exitCode !== null || sinceBegin() > FIRST_CYCLE)
        throw new Error(`${String(visits.accounts)} polled, then no more`);
      await sleep(200);
    }
    const first = sinceBegin();
    // What the start has delayed is made up for before anything is counted.
    visits.forget();
    while (!visits.areOnTime && sinceBegin() < FIRST_CYCLE) await sleep(1000);
    const caughtUp = sinceBegin();
    const redis = await childOf(worker);
    const watched = { worker: worker.pid, redis, server: server.pid, ...(front ? { front: front.pid } : {}) };
    const before = Object.entries(watched).map(([name, pid]) => ({ name, pid, ticks: cpuOf(pid) }));
    const from = performance.now();
    visits.count();
    await sleep(Number(values.minutes) * MINUTE);
    const { late, gaps } = visits.counted();
    const seconds = (performance.now() - from) / 1000;
    const cpu = new Map(
      before.map(({ name, pid, ticks }) => [name, (((cpuOf(pid) - ticks) / TICKS / seconds) * 100).toFixed(1)]),
    );
    process.stdout.write(
      `${values.accounts} accounts every ${values.every}, ${values.seen} kept messages each, round trip ${values.rtt} ms` +
        `${values.tls ? ', TLS' : ''}, ${values.minutes} minutes. Schedules were set after ${scheduled} s, all accounts polled once after ${first} s, all on time after ${caughtUp} s. ` +
        `The server took ${cpu.get('server') ?? ''} % of a core${front ? `, TLS in front of it ${cpu.get('front') ?? ''} %` : ''}.\n\n` +
        `| polls | due | failed | late by s, p50 | p99 | most | longest from one poll to the next, s | worker, % of a core | Redis, % | worker MB | Redis MB |\n` +
        `|---|---|---|---|---|---|---|---|---|---|---|\n` +
        `| ${[
          late.length,
          Math.round((count * seconds * 1000) / period),
          failed,
          ...[0.5, 0.99, 1].map((part) => inSeconds(late, part)),
          inSeconds(gaps, 1),
          cpu.get('worker'),
          cpu.get('redis'),
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

/** The connections that led to a login, by when the server took them: the worker has no share in this figure. */
class Visits {
  readonly #period: number;
  /** By account, milliseconds since 1970. */
  readonly #last = new Map<string, number>();
  #latest: number[] = [];
  #late: number[] = [];
  #gaps: number[] = [];

  constructor(period: number) {
    this.#period = period;
  }

  take(line: string): void {
    const { user, at } = JSON.parse(line) as { user: string; at: number };
    const late = latenessOf(at, user, this.#period);
    this.#latest = [...this.#latest.slice(1 - LATEST), late];
    this.#late.push(late);
    const last = this.#last.get(user);
    if (last !== undefined) this.#gaps.push(at - last);
    this.#last.set(user, at);
  }

  get accounts(): number {
    return this.#last.size;
  }

  forget(): void {
    this.#latest = [];
  }

  get areOnTime(): boolean {
    return this.#latest.length === LATEST && this.#latest.every((late) => late < CAUGHT_UP);
  }

  /** Counts from here. */
  count(): void {
    this.#late = [];
    this.#gaps = [];
  }

  /** In order; milliseconds. */
  counted(): { late: number[]; gaps: number[] } {
    return { late: this.#late.toSorted((a, b) => a - b), gaps: this.#gaps.toSorted((a, b) => a - b) };
  }
}

function configOf(dir: string, count: number, port: number): string {
  const security = values.tls ? `tls, caFile: ${caFile}, serverName: localhost` : 'none';
  return [
    `dataDir: ${join(dir, 'data')}`,
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

function linesOf(child: ChildProcess): Interface {
  return createInterface({ input: child.stdout as NodeJS.ReadableStream });
}

/** The port that a server says it listens on, in its first line. @param take gets the lines behind it */
async function listening(child: ChildProcess, take?: (line: string) => void): Promise<number> {
  const lines = linesOf(child);
  const [line] = (await once(lines, 'line')) as [string];
  if (take) lines.on('line', (next) => next.startsWith('{"user"') && take(next));
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

/** Ticks, with those of its children that have ended: Redis rewrites its file in one. */
function cpuOf(pid: number | undefined): number {
  const fields = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0);
}

/** Pages that are shared count in part. */
function megabytesOf(pid: number | undefined): number {
  const smaps = readFileSync(`/proc/${String(pid)}/smaps_rollup`, 'utf8');
  return Math.round(Number(/^Pss:\s+(\d+)/m.exec(smaps)?.[1] ?? 0) / 1024);
}

/** @param sorted milliseconds */
function inSeconds(sorted: readonly number[], part: number): string {
  return ((sorted[Math.floor((sorted.length - 1) * part)] ?? Number.NaN) / 1000).toFixed(2);
}

if (values.front === undefined) await measure();
else await endTls(Number(values.front));
