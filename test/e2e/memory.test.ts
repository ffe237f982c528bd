// A message of 200 MB goes by SMTP and to a webhook at the same time: the worker stays below 150 MB.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pipeline } from 'node:stream/promises';
import { startHttpSink } from '../support/http-sink.ts';
import { serversAvailable } from '../support/servers.ts';
import { until } from '../support/wait.ts';
import { oneDovecot, World } from '../support/world.ts';

const SIZE = Number(process.env['MEMORY_OCTETS'] ?? 200_000_000);
const LIMIT = 150 * 1024;

test(
  '200 MB to both destinations in less than 150 MB',
  { skip: serversAvailable() ?? false, timeout: 200_000 },
  async (t) => {
    await using pop3 = await oneDovecot(1);
    await using hook = await startHttpSink({ keep: 0 });
    const world = await World.open({ owner: t, pop3 });
    await world.mailferry.configure(world.config({ account: { maxMessageSize: '1GB' }, hook: { url: hook.url } }));
    const file = join(world.mailferry.dir, 'huge.eml');
    const sha256 = await writeHuge(file);
    await pop3.deliver('u1', [file]);

    const worker = world.start();
    let peak = 0;
    await until(
      async () => {
        peak = Math.max(peak, await highWater(worker.child.pid ?? 0));
        return (await pop3.count('u1')) === 0;
      },
      { timeout: 150_000, interval: 250, what: worker.noise },
    );
    peak = Math.max(peak, await highWater(worker.child.pid ?? 0));
    assert.equal(hook.accepted[0]?.sha256, sha256);
    assert.equal(world.inbox.messages[0]?.sha256BelowTrace, sha256);
    assert.equal(hook.accepted.length + world.inbox.messages.length, 2);
    assert.deepEqual(await readdir(join(world.mailferry.dataDir, 'spool')), [], 'nothing left in the spool');
    t.diagnostic(`${String(SIZE)} octets, peak ${String(Math.round(peak / 1024))} MB`);
    assert.ok(peak > 0 && peak < LIMIT, `peak ${String(peak)} kB`);
    assert.equal(await worker.stop(), 0, worker.noise);
  },
);

/** VmHWM, in kB. */
async function highWater(pid: number): Promise<number> {
  const status = await readFile(`/proc/${String(pid)}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
}

/** @returns its SHA-256 as RETR gives it */
async function writeHuge(file: string): Promise<string> {
  const line = `${'0123456789'.repeat(7)}\r\n`;
  const chunk = Buffer.from(line.repeat(10_000));
  const handle = await open(file, 'w');
  await handle.write('From: s@sender.example\r\nMessage-ID: <huge@sender.example>\r\nSubject: huge\r\n\r\n');
  for (let left = SIZE; left > 0; left -= chunk.length) await handle.write(chunk);
  await handle.close();
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}
