import assert from 'node:assert/strict';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Failure } from '../../src/failure.ts';
import { reveal } from '../../src/config/reveal.ts';
import { runForLine } from '../../src/config/run.ts';
import { ConfiguredSecret } from '../../src/config/secret.ts';
import type { SecretSource } from '../../src/config/fields.ts';
import { revealed as redactor } from '../../src/redact.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { tempDir } from '../support/temp.ts';
import type { Owner } from '../support/temp.ts';
import { until } from '../support/wait.ts';

await tempDir(); // starts the janitor, which lives as long as this process
assertNoLeaks();

async function revealed(source: SecretSource, folder: string, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const around = { env, folder, path: (path: string): string => join(folder, path) };
  return reveal(source, { scope: 'account', field: 'accounts.isp.password' }, around);
}

async function folderWith(owner: Owner, files: Record<string, string>): Promise<string> {
  const folder = await tempDir(owner);
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text, { mode: 0o600 });
  return folder;
}

test('comes from text, the environment, a file or a program', async (t) => {
  const folder = await folderWith(t, {
    plain: 'hunter2',
    newline: 'hunter2\n',
    windows: '\ufeffhunter2\r\nmore\r\n',
    spaces: ' hunter 2 \n',
  });
  assert.equal(await revealed('hunter2\n', folder), 'hunter2\n');
  assert.equal(await revealed({ env: 'X' }, folder, { X: 'hunter2' }), 'hunter2');
  assert.equal(await revealed({ file: 'plain' }, folder), 'hunter2');
  assert.equal(await revealed({ file: 'newline' }, folder), 'hunter2');
  assert.equal(await revealed({ file: 'windows' }, folder), 'hunter2');
  assert.equal(await revealed({ file: 'spaces' }, folder), ' hunter 2 ');
  assert.equal(await revealed({ command: ['printf', '%s\\nuser: jane\\n', 'hunter2'] }, folder), 'hunter2');
  assert.equal(await revealed({ command: ['cat', 'newline'] }, folder), 'hunter2', 'runs in the folder of the config');
});

test('a program beside the config is found by its relative path', async (t) => {
  const folder = await folderWith(t, { 'secret.sh': '#!/bin/sh\necho hunter2\n' });
  await chmod(join(folder, 'secret.sh'), 0o700);
  assert.equal(await revealed({ command: ['./secret.sh'] }, folder), 'hunter2');
});

test('a file that was replaced counts at once', async (t) => {
  const folder = await folderWith(t, { password: 'old\n' });
  const secret = new ConfiguredSecret({ file: 'password' }, async () => revealed({ file: 'password' }, folder));
  assert.equal(await secret.reveal(), 'old');
  await writeFile(join(folder, 'password'), 'new\n');
  assert.equal(await secret.reveal(), 'new');
});

test('those who ask at the same time share one read, and a failure is not kept', async () => {
  let reads = 0;
  const secret = new ConfiguredSecret('x', async () => {
    reads += 1;
    if (reads === 1) throw new Error('first');
    return 'x';
  });
  await Promise.all([assert.rejects(secret.reveal()), assert.rejects(secret.reveal())]);
  assert.equal(reads, 1);
  assert.equal(await secret.reveal(), 'x');
});

test('says what is wrong, with the scope of who uses it, and no output of the program', async (t) => {
  const folder = await folderWith(t, { empty: '', 'blank-line': '\nhunter2\n' });
  for (const [source, message] of [
    [{ env: 'NO_SUCH' }, /accounts\.isp\.password: the environment variable NO_SUCH is not set/],
    [{ file: 'none' }, /none cannot be read: ENOENT/],
    [{ file: 'empty' }, /first line of .*empty is empty/],
    [{ file: 'blank-line' }, /first line of .*blank-line is empty/],
    [{ command: ['no-such-program-4711'] }, /no-such-program-4711 gave no secret: it is not installed here/],
    [
      { command: ['sh', '-c', 'echo hunter2; echo sorry >&2; exit 3'] },
      /sh gave no secret: it ended with code 3: sorry/,
    ],
    [{ command: ['sh', '-c', 'echo hunter2; kill -9 $$'] }, /it was ended by SIGKILL/],
    [{ command: ['true'] }, /true printed nothing/],
    [{ command: ['yes', 'hunter2'] }, /it printed more than 65536 octets/],
  ] as const) {
    await assert.rejects(revealed(source, folder), (thrown: unknown) => {
      assert.ok(thrown instanceof Failure);
      assert.match(thrown.message, message);
      assert.equal(thrown.scope, 'account');
      assert.equal(thrown.code, 'config.secret');
      assert.ok(thrown.remedy);
      assert.doesNotMatch(inspect(thrown), /hunter2/);
      return true;
    });
  }
});

test('a program that hangs ends at its timeout, and its children with it', async (t) => {
  const folder = await tempDir(t);
  const options = { cwd: folder, env: process.env, limit: 1000, timeout: 300 };
  const result = await runForLine('sh', ['-c', 'sleep 600 & echo $! > pid; wait'], options);
  assert.deepEqual(result, { ok: false, reason: 'it did not end within 0.3 s' });
  const pid = Number(await readFile(join(folder, 'pid'), 'utf8'));
  await until(async () => !(await isRunning(pid)), { what: 'the child of the program has ended' });
});

test('a program whose child keeps the pipe open does not hold us', async (t) => {
  const options = { cwd: await tempDir(t), env: process.env, limit: 1000, timeout: 5000 };
  const begin = performance.now();
  const result = await runForLine('sh', ['-c', 'sleep 2 & echo hunter2'], options);
  assert.deepEqual(result, { ok: true, output: 'hunter2\n' });
  assert.ok(performance.now() - begin < 1500);
});

/** False for a process that has ended, though nobody may have asked for its exit code yet. */
async function isRunning(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${String(pid)}/stat`, 'utf8').catch(() => '');
  return status !== '' && !/\) [ZX] /.test(status);
}

test('prints as [secret] wherever it ends up', () => {
  const secret = new ConfiguredSecret('hunter2', async () => Promise.resolve('hunter2'));
  for (const text of [
    inspect(secret, { showHidden: true, depth: 9 }),
    inspect({ deep: [secret] }, { depth: 9 }),
    JSON.stringify({ secret }),
    String(secret),
    Object.entries(secret).join(),
  ]) {
    assert.doesNotMatch(text, /hunter2/);
  }
  assert.equal(inspect(secret), '[secret]');
});

test('tokens that come and go: the last ones are in no line, and those before are forgotten', async () => {
  let turn = 0;
  const secret = new ConfiguredSecret({ file: 'token' }, () => Promise.resolve(`token-${String(turn)}-hunter2-Zq`));
  for (turn = 0; turn < 1000; turn += 1) await secret.reveal();
  const shown = (number: number): boolean => redactor.redact(`token-${String(number)}-hunter2-Zq`) !== '[secret]';
  assert.deepEqual([0, 500, 995, 996, 997, 998, 999].filter(shown), [0, 500, 995]);
});
