import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { difference, isEmpty } from '../../src/config/difference.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/types.ts';
import { tempDir } from '../support/temp.ts';

const folder = await tempDir();

async function config(text: string): Promise<Config> {
  await writeFile(join(folder, 'mailferry.yaml'), text, { mode: 0o600 });
  const { config, problems } = await loadConfig('mailferry.yaml', { A: 'a', B: 'b', HOME: folder }, folder);
  assert.ok(config, JSON.stringify(problems));
  return config;
}

const BASE = `
destinations:
  me: { type: smtp, host: h.example, to: [me@example.com], from: me@example.com }
  hook: { type: webhook, url: https://h.example/, secret: { env: A } }
accounts:
  one: { host: h.example, user: j, password: { env: A }, deliverTo: [me] }
  two: { host: h.example, user: j, password: hunter2, deliverTo: [me, hook] }
`.replace('{ env: A } }', 'whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0 }');

test('the same config differs in nothing', async () => {
  const same = difference(await config(BASE), await config(`# with a comment\n${BASE}`));
  assert.ok(isEmpty(same), JSON.stringify(same));
});

test('accounts and destinations that came, changed and went', async () => {
  const after = BASE.replace('one:', 'three:').replace('[me, hook]', '[hook]').replace('to: [me@', 'to: [you@');
  assert.deepEqual(difference(await config(BASE), await config(after)), {
    accounts: { added: ['three'], changed: ['two'], removed: ['one'] },
    destinations: { added: [], changed: ['me'], removed: [] },
    needsRestart: [],
    settings: [],
  });
});

test('secrets compare by where they come from', async () => {
  for (const [before, after] of [
    ['{ env: A }', '{ env: B }'],
    ['hunter2', 'hunter3'],
    ['hunter2', '{ env: A }'],
  ] as const) {
    const { accounts } = difference(await config(BASE), await config(BASE.replace(before, after)));
    assert.equal(accounts.changed.length, 1, `${before} to ${after}`);
  }
});

test('what needs a restart, and what does not', async () => {
  const settings = `
dataDir: elsewhere
redis: { url: redis://localhost }
http: { listen: 127.0.0.1:8080 }
log: { level: debug }
concurrency: 5
memoryBudget: 128MB
`;
  const { accounts, needsRestart, settings: live } = difference(await config(BASE), await config(settings + BASE));
  assert.deepEqual(accounts, { added: [], changed: [], removed: [] });
  assert.deepEqual(needsRestart, ['dataDir', 'redis', 'http']);
  assert.deepEqual(live, ['log', 'concurrency', 'memoryBudget']);
});

test('a default that changes counts for the accounts that have it', async () => {
  const own = BASE.replace('user: j, password: { env: A }', 'every: 7m, user: j, password: { env: A }');
  const { accounts } = difference(await config(own), await config(`defaults: { every: 9m }\n${own}`));
  assert.deepEqual(accounts.changed, ['two']);
});
