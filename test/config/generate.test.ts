/** The files that are made from the option table, and the example: up to date, and true. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { explainProblems } from '../../src/config/explain.ts';
import { generatedFiles } from '../../src/config/generate.ts';
import { annotatedSchema } from '../../src/config/json-schema.ts';
import type { OptionSchema } from '../../src/config/json-schema.ts';
import { loadConfig } from '../../src/config/load.ts';

const TOP = resolve(import.meta.dirname, '../..');

for (const [path, text] of generatedFiles()) {
  test(`${path} is what \`npm run generate\` writes`, async () => {
    // not `equal`: it would print both files
    const isFresh = (await readFile(join(TOP, path), 'utf8')) === text;
    assert.ok(isFresh, 'run `npm run generate` and commit the result');
  });
}

test('every option is described', () => {
  const missing: string[] = [];
  const visit = (option: OptionSchema, path: string): void => {
    for (const [name, inner] of Object.entries(option.properties ?? {})) {
      if (inner.description === undefined && !path.endsWith('retention')) missing.push(`${path}.${name}`);
      visit(inner, `${path}.${name}`);
    }
    for (const inner of [...(option.anyOf ?? []), ...(option.oneOf ?? [])]) visit(inner, path);
    if (option.additionalProperties) visit(option.additionalProperties, `${path}.*`);
  };
  visit(annotatedSchema(), '');
  assert.deepEqual(missing, []);
});

test('the annotated example loads without a problem', async () => {
  const env = {
    HOME: '/home/nobody',
    GMAIL_APP_PASSWORD: 'x',
    SMTP_PASSWORD: 'x',
    HELPDESK_SECRET: 'whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0',
    ISP_PASSWORD: 'x',
  };
  const { config, problems } = await loadConfig('config/mailferry.example.yaml', env, TOP);
  assert.equal(explainProblems(problems, true), '');
  assert.ok((config?.accounts.size ?? 0) > 1);
});
