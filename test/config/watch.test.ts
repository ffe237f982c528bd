import assert from 'node:assert/strict';
import { mkdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { watchConfig } from '../../src/config/watch.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { tempDir } from '../support/temp.ts';
import type { Owner } from '../support/temp.ts';
import { until } from '../support/wait.ts';

await tempDir(); // starts the janitor, which lives as long as this process
assertNoLeaks();

const INTERVAL = 10;
/** Long enough for several looks, to see that nothing happens. */
const QUIET = 10 * INTERVAL;

/** Watches `path` from now on; the result tells how many changes there were. */
async function watched(owner: Owner, path: string): Promise<() => number> {
  let changes = 0;
  const watch = watchConfig(path, () => void (changes += 1), { interval: INTERVAL });
  owner.after(async () => {
    watch.close();
    await sleep(0);
  });
  await watch.ready;
  return () => changes;
}

async function changesTo(changes: () => number, count: number): Promise<void> {
  await until(() => changes() >= count, { what: `${String(count)} changes` });
  await sleep(QUIET);
  assert.equal(changes(), count);
}

test('a file that is written anew', async (t) => {
  const file = join(await tempDir(t), 'mailferry.yaml');
  await writeFile(file, 'a: 1\n');
  const changes = await watched(t, file);
  await writeFile(file, 'a: 2\n');
  await changesTo(changes, 1);
  await writeFile(file, 'a: 3\n');
  await changesTo(changes, 2);
});

test('an editor that puts a new file in its place', async (t) => {
  const folder = await tempDir(t);
  const file = join(folder, 'mailferry.yaml');
  await writeFile(file, 'a: 1\n');
  const changes = await watched(t, file);
  await rename(file, `${file}~`);
  await writeFile(join(folder, '.new'), 'a: 2\n');
  await rename(join(folder, '.new'), file);
  await changesTo(changes, 1);
});

test('a folder that Kubernetes swaps', async (t) => {
  const folder = await tempDir(t);
  for (const [version, text] of [
    ['..2026_01', 'a: 1\n'],
    ['..2026_02', 'a: 2\n'],
  ] as const) {
    await mkdir(join(folder, version));
    await writeFile(join(folder, version, 'mailferry.yaml'), text);
  }
  await symlink('..2026_01', join(folder, '..data'));
  await symlink(join('..data', 'mailferry.yaml'), join(folder, 'mailferry.yaml'));
  const asFolder = await watched(t, folder);
  const asFile = await watched(t, join(folder, 'mailferry.yaml'));
  await symlink('..2026_02', join(folder, '..data_tmp'));
  await rename(join(folder, '..data_tmp'), join(folder, '..data'));
  await changesTo(asFolder, 1);
  assert.equal(asFile(), 1);
});

test('files that come to a folder and go', async (t) => {
  const folder = await tempDir(t);
  await writeFile(join(folder, 'a.yaml'), 'a: 1\n');
  const changes = await watched(t, folder);
  await writeFile(join(folder, 'b.yml'), 'b: 1\n');
  await changesTo(changes, 1);
  await rm(join(folder, 'b.yml'));
  await changesTo(changes, 2);
  await writeFile(join(folder, 'notes.txt'), 'no config\n');
  await sleep(QUIET);
  assert.equal(changes(), 2);
});

test('a file that disappears and comes back', async (t) => {
  const file = join(await tempDir(t), 'mailferry.yaml');
  await writeFile(file, 'a: 1\n');
  const changes = await watched(t, file);
  await rm(file);
  await changesTo(changes, 1);
  await writeFile(file, 'a: 1\n');
  await changesTo(changes, 2);
});

test('nothing happens when only the time changes', async (t) => {
  const file = join(await tempDir(t), 'mailferry.yaml');
  await writeFile(file, 'a: 1\n');
  const changes = await watched(t, file);
  await utimes(file, new Date(), new Date(0));
  await writeFile(file, 'a: 1\n');
  await sleep(QUIET);
  assert.equal(changes(), 0);
});

test('calls do not overlap, and none comes after close', async (t) => {
  const file = join(await tempDir(t), 'mailferry.yaml');
  await writeFile(file, 'a: 1\n');
  let running = 0;
  let calls = 0;
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const watch = watchConfig(
    file,
    async () => {
      calls += 1;
      running += 1;
      await released;
      running -= 1;
    },
    { interval: INTERVAL },
  );
  await watch.ready;
  await writeFile(file, 'a: 2\n');
  await until(() => calls === 1);
  await writeFile(file, 'a: 3\n');
  await sleep(QUIET);
  assert.deepEqual([calls, running], [1, 1]);
  watch.close();
  release();
  await writeFile(file, 'a: 4\n');
  await sleep(QUIET);
  assert.deepEqual([calls, running], [1, 0]);
});
