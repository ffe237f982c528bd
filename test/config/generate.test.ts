/** The files that are made from the option table, and the example: up to date, and true. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { explainProblems } from '../../src/config/explain.ts';
import { generatedFiles } from '../../src/config/generate.ts';
import { annotatedSchema, publishedSchema } from '../../src/config/json-schema.ts';
import type { OptionSchema } from '../../src/config/json-schema.ts';
import { loadConfig } from '../../src/config/load.ts';

const GOOD = ['minimal', 'everything', 'defaults'];
const BAD = ['unknown-field-account', 'unknown-field-root', 'unknown-type', 'missing-required', 'retention', 'names'];

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

test('the JSON Schema takes what is right and refuses what is not', async () => {
  const schema = z.fromJSONSchema(publishedSchema());
  const read = async (path: string): Promise<unknown> => parse(await readFile(join(TOP, path), 'utf8'));
  for (const path of [
    'config/mailferry.example.yaml',
    ...GOOD.map((name) => `test/config/good/${name}/mailferry.yaml`),
  ]) {
    const { error } = schema.safeParse(await read(path));
    assert.equal(error, undefined, path);
  }
  for (const name of BAD) {
    assert.equal(schema.safeParse(await read(`test/config/fixtures/${name}/mailferry.yaml`)).success, false, name);
  }
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
