// What an install brings in: each package with its checksum, and no code that runs at install but what is named.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';

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
