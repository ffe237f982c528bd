/**
 * Breaks one rule of the promises after the other in a copy of the source, and shows that a test fails for each:
 * `npm run test:mutations`. A rule that can be broken unseen is a rule that nothing holds.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MUTATIONS } from './mutation-rules.ts';
import type { Mutation } from './mutation-rules.ts';

const ROOT = join(import.meta.dirname, '..');

let output = '';

/** What these tests say of a copy of the project, after `change`. @param change false: there is nothing to change */
function verdict(tests: readonly string[], change: (copy: string) => boolean): 'caught' | 'missed' | 'stale' {
  const copy = mkdtempSync(join(tmpdir(), 'mutation-'));
  try {
    for (const name of ['src', 'test', 'package.json', 'tsconfig.json', 'config'])
      cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    if (!change(copy)) return 'stale';
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const result = spawnSync(process.execPath, ['--test', ...tests], {
      cwd: copy,
      env,
      encoding: 'utf8',
      timeout: 120_000,
    });
    output = result.stdout;
    return result.status === 0 ? 'missed' : 'caught';
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function run({ file, find, replace, tests }: Mutation): ReturnType<typeof verdict> {
  return verdict(tests, (copy) => {
    const path = join(copy, file);
    const source = readFileSync(path, 'utf8');
    if (!source.includes(find)) return false;
    writeFileSync(path, source.replace(find, replace));
    return true;
  });
}

// Tests that fail without a mutation would "catch" them all.
for (const file of new Set(MUTATIONS.flatMap(({ tests }) => tests))) {
  if (verdict([file], () => true) === 'missed') continue;
  process.stdout.write(`${output}\n${file} fails as it is: nothing that it says counts\n`);
  process.exit(1);
}

let failed = 0;
for (const mutation of MUTATIONS) {
  const found = run(mutation);
  if (found !== 'caught') failed += 1;
  process.stdout.write(`${found.padEnd(7)} ${mutation.rule}\n`);
}
process.stdout.write(`${MUTATIONS.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
