// A disk that is full or may not be written to: the poll stops cleanly, says whose trouble it is, and goes on by itself.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Clock } from '../support/clock.ts';
import { mail, mails } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';
import { oneDovecot, World } from '../support/world.ts';

const HOUR = 3_600_000;

describe('a disk with faults', { skip: serversAvailable() ?? false }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(3);
  });
  after(() => pop3.stop());

  test('full, under a running worker', { skip: mayMount() ? false : 'needs to mount a tmpfs' }, async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u1', account: { maxMessageSize: '100MB' } });
    const clock = await Clock.of(world.mailferry);
    const { dataDir } = world.mailferry;
    await mkdir(dataDir);
    using _ = mounted(dataDir, 'size=8m');
    const ballast = join(dataDir, 'ballast');
    await writeFile(ballast, Buffer.alloc(7_000_000));

    const small = mails('small', 3);
    const large = mail('large', 3_000_000);
    await world.put([...small, large]);
    const worker = world.start();
    const failed = await worker.says('poll failed');
    assert.equal(failed['code'], 'spool.write');
    assert.match(String(failed['reason']), /ENOSPC|no space/i);
    assert.match(String(failed['remedy']), /room on the disk/);
    assert.ok((await pop3.count('u1')) >= 1, 'what did not fit stays on the server');
    assert.deepEqual(await readdir(join(dataDir, 'spool')), [], 'nothing left behind');

    await rm(ballast);
    await clock.advance(HOUR);
    await world.pollNow();
    await until(async () => (await pop3.count('u1')) === 0, { timeout: 30_000, interval: 200, what: worker.noise });
    await worker.says('works again');
    assert.equal(world.hook.accepted.length, 4, 'none twice');
    assert.equal(world.inbox.messages.length, 4, 'none twice');
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test(
    'read-only at the start: says so, and delivers nothing',
    { skip: mayMount() ? false : 'needs to mount' },
    async (t) => {
      const world = await World.open({ owner: t, pop3, user: 'u2' });
      const { dataDir } = world.mailferry;
      await mkdir(dataDir);
      using _ = mounted(dataDir, 'ro');
      await world.put(mails('kept', 2));
      const { code, stderr } = await world.mailferry.run('sync');
      assert.equal(code, 69, stderr);
      assert.match(stderr, /Cannot write to .*spool/);
      assert.match(stderr, /may write/);
      assert.equal(await pop3.count('u2'), 2);
      execFileSync('mount', ['-o', 'remount,rw', dataDir]);
      assert.equal((await world.mailferry.run('sync')).code, 0);
      assert.equal(await pop3.count('u2'), 0);
    },
  );

  test('full under the embedded Redis too', { skip: mayMount() ? false : 'needs to mount' }, async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u3', redis: 'embedded' });
    const { dataDir } = world.mailferry;
    await mkdir(dataDir);
    using _ = mounted(dataDir, 'size=4m');
    const worker = world.start();
    await worker.says('mailferry started');
    await worker.says('polled');
    const ballast = join(dataDir, 'ballast');
    spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4k'], { stdio: 'ignore' });
    const sent = mails('tight', 20);
    await world.put(sent);
    await worker.says('redis out of reach: waiting for it, mail waits on its servers', 40_000);
    assert.ok(worker.running, 'the worker lives on');
    const delivered = new Set(world.hook.accepted.map(({ sha256 }) => sha256)).size;
    assert.ok((await pop3.count('u3')) >= 20 - delivered);
    await rm(ballast);
    await until(async () => (await pop3.count('u3')) === 0, { timeout: 60_000, interval: 200, what: worker.noise });
    assert.equal(new Set(world.hook.accepted.map(({ sha256 }) => sha256)).size, 20);
    assert.equal(await worker.stop(), 0, worker.noise);
  });
});

/** A small disk of its own at that place, until the end of the test's function: before its folder is removed. */
function mounted(dir: string, options: string): Disposable {
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir]);
  return { [Symbol.dispose]: () => void spawnSync('umount', ['-l', dir]) };
}

function mayMount(): boolean {
  return process.platform === 'linux' && process.getuid?.() === 0;
}
