// docs/protocol.md names, for each point of each RFC, the code that keeps it and the tests that hold it: all of them must exist.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');
const page = readFileSync(join(ROOT, 'docs/protocol.md'), 'utf8');
const rows = [...page.matchAll(/^\| (?:RFC|§).*$/gm)].map(([line]) => line.split('|').map((cell) => cell.trim()));

/** What stands between backquotes. */
function named(cell: string | undefined): string[] {
  return [...(cell ?? '').matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);
}

suite('the protocol table', () => {
  test('has rows', () => assert(rows.length > 20));

  for (const [, standard, point, status, files, tests] of rows) {
    test(`${String(standard)}: ${String(point)}`, () => {
      assert.equal(status, 'kept');
      assert(named(files).length > 0 && named(tests).length > 0, 'names code and tests');
      for (const file of named(files)) {
        const path = file.startsWith('sync/') ? `src/${file}` : `src/pop3/${file}`;
        assert(existsSync(join(ROOT, path)), path);
      }
      for (const name of named(tests)) {
        const path = `${name.startsWith('test/') ? name : `test/pop3/${name}`}.test.ts`;
        assert(existsSync(join(ROOT, path)), path);
      }
    });
  }

  test('every path that the page names elsewhere is there', () => {
    for (const name of named(page).filter((each) => /^(src|test|bench|docs)\//.test(each))) {
      assert(existsSync(join(ROOT, name)) || existsSync(join(ROOT, `${name}.test.ts`)), name);
    }
  });
});
