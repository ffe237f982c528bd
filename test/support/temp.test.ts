// What tests leave behind: nothing, even when their process is killed. And the waiting helper.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { tempDir } from './temp.ts';
import { until } from './wait.ts';

// Makes a folder, starts a process that lives in it, says both, and waits for its end.
const VICTIM = `
  import { spawn } from 'node:child_process';
  import { tempDir } from './temp.ts';
  const dir = await tempDir();
  const child = spawn('sleep', ['600'], { cwd: dir, detached: true, stdio: 'ignore' });
  console.log(JSON.stringify({ dir, pid: child.pid }));
  setInterval(() => undefined, 1000);
`;

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  test(`after ${signal} nothing is left of a test process`, { timeout: 30_000 }, async () => {
    const victim = spawn(process.execPath, ['--input-type=module', '--eval', VICTIM], {
      cwd: import.meta.dirname,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(victim.stdout, 'data')) as [Buffer];
    const { dir, pid } = JSON.parse(line.toString()) as { dir: string; pid: number };
    assert.equal(existsSync(dir), true);
    victim.kill(signal);
    await once(victim, 'exit');
    await until(() => !existsSync(dir), { what: 'the folder is removed' });
    await until(() => hasEnded(pid), { what: 'the process has ended' });
  });
}

test('a temporary folder goes with its owner, and others may enter it', async (t) => {
  const works: (() => Promise<void>)[] = [];
  const dir = await tempDir({ after: (work) => works.push(work) });
  t.after(() => assert.equal(existsSync(dir), false));
  assert.equal((await stat(dir)).mode & 0o777, 0o711);
  await writeFile(join(dir, 'file'), 'x');
  for (const work of works) await work();
  assert.equal(existsSync(dir), false);
});

test('until returns what it found, and fails with the last reason', async () => {
  let looks = 0;
  assert.equal(await until(() => (++looks > 2 ? looks : undefined)), 3);
  await assert.rejects(
    until(
      () => {
        throw new Error('not yet');
      },
      { timeout: 20, what: 'the moon' },
    ),
    (error: Error) => /20 ms in vain: the moon/.test(error.message) && /not yet/.test(String(error.cause)),
  );
});

/** Whether a process is gone, or a zombie that nobody has reaped yet. */
async function hasEnded(pid: number): Promise<boolean> {
  const state = await readFile(`/proc/${String(pid)}/stat`, 'latin1').catch(() => '0 (gone) Z');
  return /\) [ZX]/.test(state);
}
