/**
 * Bad configs, a folder each: `mailferry.yaml` (or a folder `config`) and the words that a person gets for it. A new rule
 * comes with a folder here.
 */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { explainProblems, problemsToJson } from '../../src/config/explain.ts';
import { loadConfig } from '../../src/config/load.ts';

const FIXTURES = join(import.meta.dirname, 'fixtures');
const ENV = { SECRET: 'canary-4711', EMPTY: '', HOME: '/home/nobody' };

for (const name of (await readdir(FIXTURES)).sort()) {
  test(name, async () => {
    const folder = join(FIXTURES, name);
    const path = existsSync(join(folder, 'config')) ? 'config' : 'mailferry.yaml';
    const { config, problems: all } = await loadConfig(path, ENV, folder);
    // a working copy is readable by others or not as its owner likes
    const problems = all.filter(({ message }) => !message.includes('every user of this host'));
    const text = explainProblems(problems, config !== undefined).replaceAll(folder, 'FOLDER');
    assert.equal(text, await readFile(join(folder, 'expected.txt'), 'utf8'));
    for (const shown of [text, JSON.stringify(problemsToJson(problems)), inspect({ config, problems }, { depth: 9 })]) {
      assert.doesNotMatch(shown, /canary.?4711|Y2FuYXJ5/, 'a secret is shown');
    }
    for (const { leavesOut, severity } of problems) {
      if (leavesOut === undefined) continue;
      assert.equal(severity, 'error');
      if (leavesOut.kind === 'alerts') assert.equal(config?.alerts, undefined);
      else assert.ok(!config?.[`${leavesOut.kind}s`].has(leavesOut.name), `${leavesOut.name} is left out`);
    }
  });
}
