import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FIRST_LINE } from '../../src/ops/footprint.ts';
import { tempDir } from '../support/temp.ts';

const SOURCE = join(import.meta.dirname, '../../src');
const MAIN = join(SOURCE, 'main.ts');

describe('the settings that keep a worker small', () => {
  test('main.ts begins with them', () => {
    const [first = ''] = readFileSync(MAIN, 'utf8').split('\n');
    assert.equal(first, FIRST_LINE);
    // More of it the kernel does not read.
    assert.ok(first.length < 256);
  });

  test('it can be called by its name, and Node takes all of them', () => {
    const { status, stdout, stderr } = spawnSync(MAIN, ['--version'], { encoding: 'utf8' });
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });

  test('called in another way, it starts itself anew with them', async (t) => {
    const file = join(await tempDir(t), 'program.mjs');
    writeFileSync(
      file,
      `import { startSmall } from ${JSON.stringify(join(SOURCE, 'ops/footprint.ts'))};
       const [word] = process.argv.slice(2);
       if (word === 'first') startSmall(import.meta.filename, ['second']);
       console.log(word, process.execArgv.includes('--expose-gc'), process.env.MALLOC_ARENA_MAX);`,
    );
    const seen = (env: Readonly<Record<string, string>>, flags: readonly string[]): string => {
      const all = { PATH: process.env['PATH'] ?? '', ...env };
      const { stdout, stderr } = spawnSync(process.execPath, [...flags, file, 'first'], { encoding: 'utf8', env: all });
      assert.equal(stderr, '');
      return stdout.trim();
    };
    assert.equal(seen({}, []), 'second true 2');
    assert.equal(seen({ MAILFERRY_FOOTPRINT: 'default' }, []), 'first false undefined');
    const words = FIRST_LINE.split(' ');
    assert.equal(seen({}, words.slice(words.indexOf('node') + 1)), 'first true undefined');
  });
});
