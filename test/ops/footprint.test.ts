import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { tempDir } from '../support/temp.ts';

const SOURCE = join(import.meta.dirname, '../../src');

describe('the settings that keep a worker small', () => {
  test('it starts itself anew with them, once', async (t) => {
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
    assert.equal(
      seen({}, ['--max-semi-space-size=8', '--expose-gc', '--v8-pool-size=1']),
      'first true undefined',
      'they are there',
    );
  });
});
