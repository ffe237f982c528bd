// The Redis of the tests: keeps what it is told to keep, and its life cycle is real.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { redisAvailable, startRedis } from './redis.ts';
import { until } from './wait.ts';

describe('redis', { skip: redisAvailable() ?? false, timeout: 60_000 }, () => {
  test('kill -9 and restart keep an append-only file, and nothing without one', async () => {
    for (const [args, kept] of [
      [['--appendonly', 'yes', '--appendfsync', 'always'], 'v'],
      [[], null],
    ] as const) {
      await using server = await startRedis({ args });
      const client = new Redis({ path: server.socket, retryStrategy: () => 10 });
      client.on('error', () => undefined); // expected while it is down
      await client.set('k', 'v');
      const { pid } = server;
      await server.kill9();
      assert.throws(() => server.pid, /not running/);
      await server.restart();
      assert.notEqual(server.pid, pid);
      assert.equal(await client.get('k'), kept);
      client.disconnect();
      await server.stop();
      assert.equal(existsSync(server.dir), false);
    }
  });

  test('listens on TCP when asked', async () => {
    await using server = await startRedis({ tcp: true });
    assert.match(server.url ?? '', /^redis:\/\/127\.0\.0\.1:\d+\/0$/);
    const client = new Redis(server.url ?? '');
    assert.equal(await client.ping(), 'PONG');
    client.disconnect();
  });

  test('frozen, it answers nothing until it is thawed', async () => {
    await using server = await startRedis();
    const client = new Redis({ path: server.socket });
    await client.ping();
    server.freeze();
    let answered = false;
    const answer = client.ping().then(() => (answered = true));
    await until(async () => (await state(server.pid)) === 'T', { what: 'the process is stopped' });
    assert.equal(answered, false);
    server.thaw();
    assert.equal(await answer, true);
    client.disconnect();
  });

  test('one that cannot start says why', async () => {
    await assert.rejects(startRedis({ args: ['--no-such-setting', '1'] }), /no-such-setting/);
  });
});

/** The letter that the kernel gives for the state of a process. */
async function state(pid: number): Promise<string | undefined> {
  return /\) (\w)/.exec(await readFile(`/proc/${String(pid)}/stat`, 'utf8'))?.[1];
}
