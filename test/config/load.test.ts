import assert from 'node:assert/strict';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { explainProblems, problemsToJson } from '../../src/config/explain.ts';
import { loadConfig } from '../../src/config/load.ts';
import { findConfig } from '../../src/config/source.ts';
import type { Loaded } from '../../src/config/types.ts';
import { tempDir } from '../support/temp.ts';
import type { Owner } from '../support/temp.ts';

const ENV = { HOME: '/home/nobody', SECRET: 'x' };

const DESTINATION = `
destinations:
  me: { type: smtp, host: h.example, to: [me@example.com], from: me@example.com }
`;
const ACCOUNT = `
accounts:
  isp: { host: h.example, user: j, password: { env: SECRET }, deliverTo: [me] }
`;

async function folderWith(owner: Owner, files: Record<string, string>, mode = 0o600): Promise<string> {
  const folder = await tempDir(owner);
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    await writeFile(join(folder, name), text);
    await chmod(join(folder, name), mode);
  }
  return folder;
}

function words({ config, problems }: Loaded, folder: string): string {
  return explainProblems(problems, config !== undefined).replaceAll(folder, 'FOLDER');
}

test('the config is looked for in a fixed order', async (t) => {
  const folder = await folderWith(t, {
    'config/mailferry.yaml': `concurrency: 1${DESTINATION}${ACCOUNT}`,
    'from-env.yaml': `concurrency: 2${DESTINATION}${ACCOUNT}`,
    'asked.yaml': `concurrency: 3${DESTINATION}${ACCOUNT}`,
  });
  const fromEnv = { ...ENV, MAILFERRY_CONFIG: 'from-env.yaml' };
  assert.equal((await loadConfig(undefined, ENV, folder)).config?.concurrency, 1);
  assert.equal((await loadConfig(undefined, { ...ENV, MAILFERRY_CONFIG: '' }, folder)).config?.concurrency, 1);
  assert.equal((await loadConfig(undefined, fromEnv, folder)).config?.concurrency, 2);
  assert.equal((await loadConfig('asked.yaml', fromEnv, folder)).config?.concurrency, 3);
  assert.equal((await loadConfig(join(folder, 'asked.yaml'), fromEnv, '/')).config?.concurrency, 3);
  assert.equal(await findConfig(undefined, fromEnv, folder), join(folder, 'from-env.yaml'));
  assert.equal((await loadConfig(undefined, ENV, folder)).config?.source, 'config/mailferry.yaml');
});

test('no config at all says where it was looked for', async (t) => {
  const folder = await tempDir(t);
  const loaded = await loadConfig(undefined, ENV, folder);
  assert.equal(loaded.config, undefined);
  assert.match(
    words(loaded, folder),
    /no config file: looked for config\/mailferry.yaml and \/etc\/mailferry\/mailferry.yaml; /,
  );
});

test('the data folder', async (t) => {
  const folder = await folderWith(t, {
    'a.yaml': `dataDir: state${DESTINATION}${ACCOUNT}`,
    'b.yaml': `${DESTINATION}${ACCOUNT}`,
    'c.yaml': `dataDir: ~/mail${DESTINATION}${ACCOUNT}`,
  });
  const dataDir = async (file: string, env: NodeJS.ProcessEnv): Promise<string | undefined> =>
    (await loadConfig(file, { SECRET: 'x', ...env }, folder)).config?.dataDir;
  const all = {
    MAILFERRY_DATA_DIR: '/data',
    STATE_DIRECTORY: '/var/lib/mailferry:/var/lib/other',
    XDG_STATE_HOME: '/state',
    HOME: '/home/jane',
  };
  const { MAILFERRY_DATA_DIR: _, ...withoutOwn } = all;
  assert.equal(await dataDir('a.yaml', all), join(folder, 'state'));
  assert.equal(await dataDir('c.yaml', all), '/home/jane/mail');
  assert.equal(await dataDir('b.yaml', all), '/data');
  assert.equal(await dataDir('b.yaml', withoutOwn), '/var/lib/mailferry');
  assert.equal(await dataDir('b.yaml', { XDG_STATE_HOME: '/state', HOME: '/home/jane' }), '/state/mailferry');
  assert.equal(await dataDir('b.yaml', { HOME: '/home/jane' }), '/home/jane/.local/state/mailferry');
});

test('plain secrets are told of once a file, if others can read it', async (t) => {
  const text = `
http: { listen: 127.0.0.1:8080, token: canary-4711 }
redis: { url: redis://localhost:6379 }
${DESTINATION}
accounts:
  a: { host: h.example, user: j, password: canary-4711, deliverTo: [me] }
  b: { host: h.example, user: k, password: canary-4711, deliverTo: [me], proxy: "http://u:canary-4711@p.example" }
`;
  const folder = await folderWith(t, { 'mailferry.yaml': text }, 0o644);
  assert.equal(
    words(await loadConfig('mailferry.yaml', ENV, folder), folder),
    'mailferry.yaml:2:33: warning: http.token: stands in a file that every user of this host can read (so do 3 more, such as accounts.a.password); chmod o-r mailferry.yaml, or write { env: NAME } or { file: PATH }\n',
  );
  await chmod(join(folder, 'mailferry.yaml'), 0o640);
  assert.equal(words(await loadConfig('mailferry.yaml', ENV, folder), folder), '');
});

test('a plain secret that looks like a variable is told of', async (t) => {
  const folder = await folderWith(t, {
    'mailferry.yaml': DESTINATION + ACCOUNT.replace('{ env: SECRET }', '"${SECRET}"'),
  });
  assert.match(
    words(await loadConfig('mailferry.yaml', ENV, folder), folder),
    /password: looks like a variable, but is taken as it stands/,
  );
});

test('secret files that others can read are told of, but not those that Docker or Kubernetes mount', async (t) => {
  const account = ACCOUNT.replace('{ env: SECRET }', '{ file: secret/password }');
  const files = { 'mailferry.yaml': DESTINATION + account, '..2026_01_01/password': 'hunter2\n' };
  const folder = await folderWith(t, files, 0o644);
  await symlink('..2026_01_01', join(folder, 'secret'));
  assert.equal(words(await loadConfig('mailferry.yaml', ENV, folder), folder), '');
  const own = await folderWith(t, { 'mailferry.yaml': DESTINATION + account, 'secret/password': 'hunter2\n' }, 0o644);
  assert.equal(
    words(await loadConfig('mailferry.yaml', ENV, own), own),
    'mailferry.yaml:6:36: warning: accounts.isp.password: can be read by every user of this host: FOLDER/secret/password; chmod o-r FOLDER/secret/password\n',
  );
});

test('client certificates and authorities', async (t) => {
  const tls = ACCOUNT.replace('deliverTo', 'caFile: ca.pem, certFile: cert.pem, keyFile: cert.key, deliverTo');
  const folder = await folderWith(t, {
    'mailferry.yaml': DESTINATION + tls,
    'ca.pem': '# ours\n-----BEGIN CERTIFICATE-----\n',
    'cert.pem': '-----BEGIN CERTIFICATE-----\n',
    'cert.key': '-----BEGIN PRIVATE KEY-----\n',
  });
  const { config, problems } = await loadConfig('mailferry.yaml', ENV, folder);
  assert.deepEqual(problems, []);
  assert.equal(config?.accounts.get('isp')?.tls.keyFile, join(folder, 'cert.key'));
  await chmod(join(folder, 'cert.key'), 0o644);
  assert.match(
    words(await loadConfig('mailferry.yaml', ENV, folder), folder),
    /warning: accounts.isp.keyFile: "cert.key" can be read by every user/,
  );
});

test('a file that is too large, and a folder of too many', async (t) => {
  const folder = await folderWith(t, { 'large.yaml': '# '.repeat(3 * 1024 * 1024) });
  assert.match(words(await loadConfig('large.yaml', ENV, folder), folder), /^large.yaml: larger than 4MB; /);
  await mkdir(join(folder, 'many'));
  for (let index = 0; index <= 1000; index += 1) await writeFile(join(folder, 'many', `${String(index)}.yaml`), '');
  assert.match(words(await loadConfig('many', ENV, folder), folder), /^many: a folder of more than 1000 files; /);
});

test('problems as JSON have every key', async (t) => {
  const folder = await folderWith(t, { 'mailferry.yaml': `${DESTINATION}${ACCOUNT}  x:\n` });
  const { problems } = await loadConfig('mailferry.yaml', ENV, folder);
  assert.deepEqual(problemsToJson(problems), [
    {
      severity: 'error',
      file: 'mailferry.yaml',
      line: 7,
      column: 3,
      field: 'accounts.x',
      value: null,
      message: 'is empty',
      remedy: 'write `host:`, `user:`, `password:` and `deliverTo:` below it',
      leavesOut: { kind: 'account', name: 'x' },
    },
  ]);
});

/** What people do to a value by mistake, in the place of a secret. */
const MISTAKES: readonly ((secret: string) => string)[] = [
  (secret) => secret,
  (secret) => `'${secret}'`,
  (secret) => `"${secret}`,
  (secret) => `'${secret}`,
  (secret) => `{ ${secret} }`,
  (secret) => `{ ${secret}: ${secret} }`,
  (secret) => `{ env: "${secret} x" }`,
  (secret) => `{ env: SECRET, x: ${secret} }`,
  (secret) => `[${secret}`,
  (secret) => `[${secret}]`,
  (secret) => `{ command: ${secret} }`,
  (secret) => `*${secret}`,
  (secret) => `&${secret}`,
  (secret) => `!${secret} x`,
  (secret) => `@${secret}`,
  (secret) => `%${secret}`,
  (secret) => `|${secret}`,
  (secret) => `a: ${secret}`,
  (secret) => `\n    ${secret}`,
  (secret) => `\n      ${secret}: x`,
  (secret) => `"\\${secret}"`,
  (secret) => `${secret}\n    password: ${secret}`,
];

test('a secret shows in nothing that is told, whatever mistake surrounds it', async (t) => {
  const folder = await tempDir(t);
  const file = join(folder, 'mailferry.yaml');
  const secret = 'canary4711';
  const fields = [
    'http.token',
    'redis.url',
    'me.password',
    'hook.secret',
    'hook.url',
    'hook.headers',
    'isp.password',
    'isp.proxy',
  ];
  for (const field of fields) {
    for (const mistake of MISTAKES) {
      const value = (name: string, right: string): string => (name === field ? mistake(secret) : right);
      const text = `
http:
    listen: 127.0.0.1:8080
    token: ${value('http.token', '{ env: SECRET }')}
redis:
    url: ${value('redis.url', 'redis://localhost')}
destinations:
  me:
    type: smtp
    host: h.example
    auth: { user: j }
    password: ${value('me.password', 'x')}
    to: [me@example.com]
  hook:
    type: webhook
    url: ${value('hook.url', 'https://h.example/')}
    secret: ${value('hook.secret', '{ env: SECRET }')}
    headers: ${value('hook.headers', '{}')}
accounts:
  isp:
    host: h.example
    user: jane
    password: ${value('isp.password', '{ env: SECRET }')}
    proxy: ${value('isp.proxy', 'http://p.example')}
    deliverTo: [me]
`;
      await writeFile(file, text);
      const { config, problems } = await loadConfig(file, ENV, folder);
      // the values of a map of headers are no secrets once they are compiled, nor is an anchor's name
      const told = [
        explainProblems(problems, true),
        JSON.stringify(problemsToJson(problems)),
        inspect(problems, { depth: 9 }),
      ];
      if (!['hook.url', 'hook.headers'].includes(field))
        told.push(inspect(config, { depth: 9 }), JSON.stringify(config));
      for (const shown of told) assert.ok(!shown?.includes(secret), `${text}\n${shown ?? ''}`);
    }
  }
});
