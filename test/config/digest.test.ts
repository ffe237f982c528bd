// The digest by which workers see that their configs differ: of what they share, and of no secret.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { configDigest } from '../../src/config/digest.ts';
import { loadConfig } from '../../src/config/load.ts';
import { tempDir } from '../support/temp.ts';

const folder = await tempDir();

async function digest(text: string): Promise<string> {
  await writeFile(join(folder, 'mailferry.yaml'), text, { mode: 0o600 });
  const { config, problems } = await loadConfig('mailferry.yaml', { A: 'a', HOME: folder }, folder);
  assert.ok(config && problems.every(({ severity }) => severity === 'warning'), JSON.stringify(problems));
  return configDigest(config);
}

const BASE = `
destinations:
  hook: { type: webhook, url: 'https://h.example/?key=4711', headers: { X-Key: canary } }
accounts:
  one: { host: h.example, user: j, password: hunter2, deliverTo: [hook], proxy: 'socks5://me:canary@p.example:1080' }
  two: { host: h.example, user: k, password: { env: A }, deliverTo: [hook] }
`;

test('what workers share', async () => {
  const base = await digest(BASE);
  const lines = BASE.trimEnd().split('\n');
  const swapped = [...lines.slice(0, -2), lines.at(-1), lines.at(-2)].join('\n');
  assert.equal(await digest(swapped), base, 'the order does not count');
  assert.equal(await digest(`${BASE}concurrency: 7\nlog: { level: debug }\n`), base, 'nor what is of one worker alone');
  assert.notEqual(await digest(BASE.replace('user: k', 'user: l')), base);
  assert.notEqual(await digest(BASE.replace('{ type: webhook', '{ format: json, type: webhook')), base);
});

test('no secret goes into it', async () => {
  const base = await digest(BASE);
  for (const [from, to] of [
    ['hunter2', 'hunter3'],
    ['X-Key: canary', 'X-Key: other'],
    ['me:canary@', 'me:other@'],
    ['key=4711', 'key=4712'],
  ] as const) {
    assert.notEqual(BASE.replace(from, to), BASE);
    assert.equal(await digest(BASE.replace(from, to)), base, from);
  }
});
