/** Good configs, a folder each, with the config that the program gets. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { explainProblems } from '../../src/config/explain.ts';
import { loadConfig } from '../../src/config/load.ts';

const GOOD = join(import.meta.dirname, 'good');
const ENV = { SECRET: 'redis://canary-4711', HOME: '/home/nobody' };

/** As JSON: maps as objects, what is undefined left out. */
function plain(value: unknown, folder: string): unknown {
  const text = JSON.stringify(value, (_, inner: unknown) => (inner instanceof Map ? Object.fromEntries(inner) : inner));
  return JSON.parse(text.replaceAll(folder, 'FOLDER'));
}

for (const name of (await readdir(GOOD)).sort()) {
  test(name, async () => {
    const folder = join(GOOD, name);
    const path = existsSync(join(folder, 'config')) ? 'config' : 'mailferry.yaml';
    const { config, problems } = await loadConfig(path, ENV, folder);
    // a working copy is readable by others or not as its owner likes
    const errors = problems.filter(({ message }) => !message.includes('every user of this host'));
    assert.equal(explainProblems(errors, true), '');
    const expected: unknown = JSON.parse(await readFile(join(folder, 'expected.json'), 'utf8'));
    assert.deepEqual(plain(config, folder), expected);
    assert.ok(Object.isFrozen(config) && [...(config?.accounts.values() ?? [])].every(Object.isFrozen), 'is frozen');
  });
}
