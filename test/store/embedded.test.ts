// The embedded Redis: one for each folder, whoever comes first, and gone with the last.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { suite, test } from 'node:test';
import { joinEmbeddedRedis } from '../../src/store/embedded.ts';
import { ledgerConnection } from '../../src/store/redis.ts';
import { Failure } from '../../src/failure.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

const CODE = `
import { joinEmbeddedRedis } from ${JSON.stringify(join(import.meta.dirname, '../../src/store/embedded.ts'))};
import { ledgerConnection } from ${JSON.stringify(join(import.meta.dirname, '../../src/store/redis.ts'))};
const embedded = await joinEmbeddedRedis(process.argv[1]);
const redis = ledgerConnection({ kind: 'socket', path: embedded.socket }, 'mailferry:' + process.pid + ':ledger', () => undefined);
await redis.connect();
await redis.incr('visitors');
console.log('joined');
process.on('SIGTERM', async () => { await embedded.leave(redis); process.exit(0); });
setInterval(() => undefined, 1000);
`;

/** A process that joins the Redis of a folder, and leaves it at SIGTERM. */
async function visitor(dataDir: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', CODE, dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(createInterface({ input: child.stdout }), 'line');
  return child;
}

async function gone(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  const exit = once(child, 'exit');
  child.kill(signal);
  await exit;
}

async function redisPid(dataDir: string): Promise<number> {
  return Number(await readFile(join(dataDir, 'redis/redis.pid'), 'utf8'));
}

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false; // ESRCH
  }
}

suite('the embedded Redis', () => {
  test('what it wrote bit by bit is written as data before it ends: the next start is quick', async (t) => {
    const dataDir = await tempDir(t);
    const embedded = await joinEmbeddedRedis(dataDir);
    const name = `mailferry:${process.pid}:ledger`;
    const redis = ledgerConnection({ kind: 'socket', path: embedded.socket }, name, () => undefined);
    await redis.connect();
    const pid = await redisPid(dataDir);
    for (let round = 0; round < 50; round++) await redis.set('often', 'x'.repeat(100_000) + String(round));
    await embedded.leave(redis);
    await until(() => !runs(pid));
    const files = await readdir(join(dataDir, 'redis'), { recursive: true, withFileTypes: true });
    const logs = files.filter((file) => file.isFile() && file.name.startsWith('appendonly'));
    const sizes = await Promise.all(logs.map(async (file) => (await stat(join(file.parentPath, file.name))).size));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    assert.ok(sizes.length > 0 && total < 200_000, `${String(total)} octets in ${String(sizes.length)} files`);
    const again = await joinEmbeddedRedis(dataDir);
    const reader = ledgerConnection({ kind: 'socket', path: again.socket }, name, () => undefined);
    await reader.connect();
    assert.equal((await reader.get('often'))?.slice(-3), 'x49');
    await again.leave(reader);
  });

  for (const what of ['somebody joins', 'it is killed'] as const) {
    test(`${what} while that is written: all is there`, async (t) => {
      const dataDir = await tempDir(t);
      const embedded = await joinEmbeddedRedis(dataDir);
      const at = { kind: 'socket', path: embedded.socket } as const;
      const redis = ledgerConnection(at, `mailferry:${process.pid}:ledger`, () => undefined);
      await redis.connect();
      const pid = await redisPid(dataDir);
      for (let round = 0; round < 50; round++) await redis.set('often', 'x'.repeat(100_000) + String(round));
      const other = ledgerConnection(at, 'mailferry:1:ledger', () => undefined);
      t.after(() => other.disconnect());
      const rewrite = redis.bgrewriteaof.bind(redis);
      redis.bgrewriteaof = async () => {
        if (what === 'somebody joins') await other.connect();
        const answer = await rewrite();
        if (what === 'it is killed') process.kill(pid, 'SIGKILL');
        return answer;
      };
      const began = performance.now();
      await embedded.leave(redis).catch((error: unknown) => error);
      t.diagnostic(`left within ${String(Math.round(performance.now() - began))} ms`);
      assert.equal(runs(pid), what === 'somebody joins', 'only who uses it keeps it');
      other.disconnect();
      const again = await joinEmbeddedRedis(dataDir);
      const reader = ledgerConnection(at, `mailferry:${process.pid}:ledger`, () => undefined);
      await reader.connect();
      assert.equal((await reader.get('often'))?.slice(-3), 'x49');
      await again.leave(reader);
    });
  }

  test('two processes at one time start one server; the last to leave ends it; what was written is there later', async (t) => {
    const dataDir = await tempDir(t);
    const [first, second] = await Promise.all([visitor(dataDir), visitor(dataDir)]);
    const pid = await redisPid(dataDir);
    await gone(first, 'SIGTERM');
    assert.ok(runs(pid), 'the other still uses it');
    await gone(second, 'SIGTERM');
    await until(() => !runs(pid));
    const third = await visitor(dataDir);
    const embedded = await joinEmbeddedRedis(dataDir);
    const redis = ledgerConnection(
      { kind: 'socket', path: embedded.socket },
      `mailferry:${process.pid}:ledger`,
      () => undefined,
    );
    await redis.connect();
    assert.equal(await redis.get('visitors'), '3');
    await gone(third, 'SIGTERM');
    await embedded.leave(redis);
  });

  test('is open to nobody but its user: no port, a socket and files of ours alone', async (t) => {
    const dataDir = await tempDir(t);
    const child = await visitor(dataDir);
    const folder = join(dataDir, 'redis');
    assert.equal((await stat(folder)).mode & 0o777, 0o700);
    const sockets: string[] = [];
    for (const name of await readdir(folder)) {
      const found = await stat(join(folder, name));
      if (!found.isSocket()) continue;
      sockets.push(name);
      assert.equal(found.mode & 0o777, 0o600, name);
    }
    assert.equal(sockets.length, 1);
    const redis = ledgerConnection({ kind: 'socket', path: join(folder, String(sockets[0])) }, 'test', () => undefined);
    await redis.connect();
    assert.deepEqual(await redis.config('GET', 'port'), ['port', '0']);
    redis.disconnect();
    await gone(child, 'SIGTERM');
  });

  test('the server of a process that was killed is adopted, and ends with the next', async (t) => {
    const dataDir = await tempDir(t);
    const killed = await visitor(dataDir);
    const orphan = await redisPid(dataDir);
    await gone(killed, 'SIGKILL');
    assert.ok(runs(orphan));
    const next = await visitor(dataDir);
    assert.equal(await redisPid(dataDir), orphan);
    await gone(next, 'SIGTERM');
    await until(() => !runs(orphan));
  });

  test('a server that was killed is started again, with all that was answered', async (t) => {
    const dataDir = await tempDir(t);
    const embedded = await joinEmbeddedRedis(dataDir);
    const redis = ledgerConnection(
      { kind: 'socket', path: embedded.socket },
      `mailferry:${process.pid}:ledger`,
      () => undefined,
    );
    await redis.connect();
    await redis.set('kept', 'yes');
    process.kill(await redisPid(dataDir), 'SIGKILL');
    await until(async () => {
      await embedded.ensure();
      return (await redis.get('kept')) === 'yes';
    });
    await embedded.leave(redis);
  });

  test('without redis-server the error says what to install', async (t) => {
    const dataDir = await tempDir(t);
    const script = `import { joinEmbeddedRedis } from ${JSON.stringify(join(import.meta.dirname, '../../src/store/embedded.ts'))};
      try { await joinEmbeddedRedis(${JSON.stringify(dataDir)}, []); } catch (error) { console.log(error.code + ': ' + error.message + ': ' + error.remedy); }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: { PATH: '/nowhere' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    assert.match(line, /^redis\.embedded: .*redis-server.*apt-get install redis-server.*redis\.url/);
  });

  test('a folder that cannot be made is told', async (t) => {
    const file = join(await tempDir(t), 'file');
    await writeFile(file, '');
    await assert.rejects(
      joinEmbeddedRedis(file),
      (error: unknown) => error instanceof Failure && /dataDir/.test(error.remedy ?? ''),
    );
  });
});
