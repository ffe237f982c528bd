// What an install brings in: each package with its checksum, and no code that runs at install but what is named.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';

interface Locked {
  readonly integrity?: string;
  readonly resolved?: string;
  readonly hasInstallScript?: boolean;
  readonly optional?: boolean;
  readonly dev?: boolean;
}

const ROOT = join(import.meta.dirname, '..');
const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
  readonly packages: Readonly<Record<string, Locked>>;
};
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  readonly allowScripts: Readonly<Record<string, boolean>>;
  readonly dependencies: Readonly<Record<string, string>>;
};
const installed = Object.entries(lock.packages).filter(([path]) => path !== '');

suite('what an install brings in', () => {
  test('is locked by a SHA-512 checksum, and comes from the registry', () => {
    const loose = installed.filter(([, { integrity }]) => integrity?.startsWith('sha512-') !== true);
    assert.deepEqual(
      loose.map(([path]) => path),
      [],
    );
    assert(installed.every(([, { resolved }]) => resolved === undefined || resolved.startsWith('https://')));
  });

  test('runs nothing at install but what is named', () => {
    const scripted = installed.filter(([, { hasInstallScript }]) => hasInstallScript === true).map(([path]) => path);
    const named = new Set(Object.keys(manifest.allowScripts).map((name) => `node_modules/${name}`));
    assert.deepEqual(
      scripted.filter((path) => !named.has(path)),
      [],
    );
  });

  test('is little', () => {
    const running = installed.filter(([, { dev, optional }]) => dev !== true && optional !== true);
    assert(running.length <= 110, `${String(running.length)} packages run with mailferry`);
    assert(Object.keys(manifest.dependencies).length <= 15);
  });
});

const run = promisify(execFile);
const RECEIVER = `
import { webhookPayload } from 'mailferry/webhook';
import type { WebhookPayload } from 'mailferry/webhook';
import { Pop3Client } from 'mailferry/pop3';
import schema from 'mailferry/config/webhook.schema.json' with { type: 'json' };

export function subjectOf(body: unknown): string | null {
  const payload: WebhookPayload = webhookPayload.parse(body);
  // @ts-expect-error: no such field
  payload.subjekt;
  return payload.subject;
}
try {
  subjectOf({ version: 2 });
} catch (error) {
  console.log((error as Error).name, typeof Pop3Client.open, schema.title);
}
`;

suite('what the package gives to others', () => {
  test('the types of a webhook, the POP3 client, the schemas: for a program that has it installed', async (t) => {
    const home = await mkdtemp(join(tmpdir(), 'mailferry-package-'));
    t.after(() => rm(home, { recursive: true, force: true }));
    const installed = join(home, 'node_modules', 'mailferry');
    await mkdir(join(home, 'node_modules', '@types'), { recursive: true });
    const compiler = join(ROOT, 'node_modules', '.bin', 'tsc');
    await run(compiler, ['-p', join(ROOT, 'tsconfig.build.json'), '--outDir', join(installed, 'dist')]);
    await cp(join(ROOT, 'package.json'), join(installed, 'package.json'));
    await cp(join(ROOT, 'config'), join(installed, 'config'), { recursive: true });
    for (const name of ['zod', '@types/node', 'undici-types'])
      await symlink(join(ROOT, 'node_modules', name), join(home, 'node_modules', name));
    await writeFile(join(home, 'package.json'), '{ "type": "module" }');
    await writeFile(join(home, 'receiver.ts'), RECEIVER);
    const options = ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'es2024', '--types', 'node'];
    await run(compiler, [...options, '--ignoreConfig', 'receiver.ts'], { cwd: home });
    const { stdout } = await run(process.execPath, ['receiver.ts'], { cwd: home });
    assert.equal(stdout, 'ZodError function mailferry webhook, format json\n');
  });
});
