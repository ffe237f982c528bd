/**
 * The POP3 client alone: retrieves, hashes and deletes everything, quits; beside mpop, which does the same into a Maildir,
 * and beside a raw pipelined reader. `node bench/client.ts [--messages 10000] [--size 4k] [--rtt 40] [--rounds 5]` prints
 * a table; the programs must be built (`BENCH_OUT=... bench/build.sh`) and mpop installed.
 */

import { execFile, spawn } from 'node:child_process';
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs, promisify } from 'node:util';
import { Pop3Client } from '../src/pop3/client.ts';

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '10000' },
    size: { type: 'string', default: '4k' },
    rtt: { type: 'string', default: '0' },
    rounds: { type: 'string', default: '5' },
    out: { type: 'string', default: process.env['BENCH_OUT'] ?? join(tmpdir(), 'mailferry-bench') },
    /** Internal: be the client, against this port. */
    port: { type: 'string' },
  },
});

const run = promisify(execFile);

interface Sample {
  readonly wall: number;
  readonly cpu: number;
}

if (values.port === undefined) await compare();
else await drain(Number(values.port));

/** The work that is measured. */
async function drain(port: number): Promise<void> {
  const session = await Pop3Client.open({
    host: '127.0.0.1',
    port,
    security: 'none',
    user: 'u1',
    password: () => Promise.resolve('secret'),
    timeout: 60_000,
  });
  const { entries } = await session.listing();
  const hashes = new Set<string>();
  await Promise.all(
    entries.map(async ({ messageNumber }) => {
      const pieces: Buffer[] = [];
      await session.retrieve(messageNumber, { write: (piece) => void pieces.push(piece) });
      hashes.add(hash('sha256', Buffer.concat(pieces), 'base64'));
    }),
  );
  await Promise.all(entries.map(({ messageNumber }) => session.delete(messageNumber)));
  await session.quit();
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  const megabytes = Math.round(process.resourceUsage().maxRSS / 1024);
  process.stdout.write(
    `${JSON.stringify({ hashes: hashes.size, cpu: (userCPUTime + systemCPUTime) / 1e6, megabytes })}\n`,
  );
}

async function compare(): Promise<void> {
  const { messages, size, rtt, out } = values;
  const dir = await mkdtemp(join(tmpdir(), 'mailferry-client-bench-'));
  const server = ['--users', '1', '--messages', messages, '--size', size, '--rtt', rtt, '--pass', 'secret'];
  const competitors: Readonly<Record<string, (port: number) => Promise<string>>> = {
    client: (port) => Promise.resolve(`${process.execPath} ${import.meta.filename} --port ${String(port)}`),
    mpop: (port) => mpop(dir, port),
    raw: (port) =>
      Promise.resolve(`${out}/bin/raw pop --port ${String(port)} --pass secret --delete 1 --window 100 --users 1`),
  };
  const samples = new Map<string, Sample[]>();
  try {
    for (let round = 0; round < Number(values.rounds); round += 1) {
      for (const [name, prepare] of Object.entries(competitors)) {
        const sample = await withServer(join(out, 'bin', 'pop3d'), server, async (port) =>
          measure(await prepare(port)),
        );
        samples.set(name, [...(samples.get(name) ?? []), sample]);
      }
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  process.stdout.write(`${messages} messages of ${size}, round trip ${rtt} ms, median of ${values.rounds}\n\n`);
  process.stdout.write('| | wall s | CPU s |\n|---|---|---|\n');
  const medians = new Map([...samples].map(([name, all]) => [name, medianOf(all)]));
  for (const [name, { wall, cpu }] of medians)
    process.stdout.write(`| ${name} | ${wall.toFixed(2)} | ${cpu.toFixed(2)} |\n`);
  const [client, peer, raw] = ['client', 'mpop', 'raw'].map((name) => medians.get(name));
  if (client && peer && raw)
    process.stdout.write(
      `\nCPU: ${(client.cpu / peer.cpu).toFixed(2)} x mpop. Wall: ${(client.wall / raw.wall).toFixed(2)} x raw.\n`,
    );
}

/** Starts a server for one run: the work empties it. */
async function withServer<T>(path: string, args: readonly string[], work: (port: number) => Promise<T>): Promise<T> {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    return await work((JSON.parse(line) as { port: number }).port);
  } finally {
    const ended = once(child, 'exit');
    child.kill();
    await ended;
  }
}

/** Wall and CPU time of a command with all its children, in seconds. */
async function measure(command: string): Promise<Sample> {
  const { stderr } = await run('bash', ['-c', `TIMEFORMAT='%R %U %S'; time { ${command} >&2; }`]);
  const [wall = 0, user = 0, system = 0] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  return { wall, cpu: user + system };
}

async function mpop(dir: string, port: number): Promise<string> {
  const maildir = join(dir, 'md');
  await rm(maildir, { recursive: true, force: true });
  await rm(join(dir, 'uidls'), { force: true });
  for (const folder of ['new', 'cur', 'tmp']) await mkdir(join(maildir, folder), { recursive: true });
  const lines = [
    'account a',
    'host 127.0.0.1',
    `port ${String(port)}`,
    'user u1',
    'password secret',
    'auth user',
    'tls off',
    'keep off',
    `delivery maildir ${maildir}`,
    `uidls_file ${join(dir, 'uidls')}`,
    '',
  ];
  const file = join(dir, 'mpoprc');
  await writeFile(file, lines.join('\n'), { mode: 0o600 });
  return `mpop -Q --file=${file} a`;
}

function medianOf(samples: readonly Sample[]): Sample {
  const middle = (numbers: readonly number[]): number =>
    numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
  return { wall: middle(samples.map(({ wall }) => wall)), cpu: middle(samples.map(({ cpu }) => cpu)) };
}
