// Logins without a password, by the config and the real process: tokens that change between polls, and client certificates.

import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { suite } from 'node:test';
import { certificates } from '../support/certificates.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { Mailferry } from '../support/mailferry.ts';
import { mail } from '../support/outside.ts';
import { serversAvailable, startServer } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';

assertNoLeaks();

/** The program of the recipe. */
async function recipe(): Promise<string> {
  const page = await readFile(join(import.meta.dirname, '../../docs/oauth.md'), 'utf8');
  return /```js\n(.*?)```/s.exec(page)?.[1] ?? assert.fail('no program in docs/oauth.md');
}

/** A config with one account of that server, into a Maildir. */
function configFor(server: RunningServer, account: object): Record<string, unknown> {
  const common = { host: 'localhost', port: server.tlsPort, caFile: server.ca, user: 'u1', deliverTo: ['here'] };
  return { destinations: { here: { type: 'maildir', path: 'mail' } }, accounts: { isp: { ...common, ...account } } };
}

async function arrived(mailferry: Mailferry): Promise<number> {
  return (await readdir(join(mailferry.dir, 'mail/new')).catch(() => [])).length;
}

suite('dovecot, without a password', { skip: serversAvailable() ?? false, timeout: 120_000 }, () => {
  test('a program that refreshes tokens: the recipe as it is printed', async (t) => {
    await using server = await startServer('dovecot', { users: 1, oauth: true });
    const mailferry = await Mailferry.create(
      t,
      configFor(server, { accessToken: { command: ['node', 'token.mjs', 'token.json'] } }),
    );
    await writeFile(join(mailferry.dir, 'token.mjs'), await recipe());
    const file = join(mailferry.dir, 'token.json');
    const url = `http://127.0.0.1:${String(server.oauthPort)}/token`;
    await writeFile(file, JSON.stringify({ url, refresh_token: 'refresh-u1' }), { mode: 0o600 });
    const tokens = new Set<unknown>();
    for (const count of [1, 2, 3]) {
      await server.deliver('u1', [mail(`poll ${String(count)}`).octets]);
      const { code, stderr } = await mailferry.run('sync');
      assert.equal(code, 0, stderr);
      assert.equal(await arrived(mailferry), count);
      const kept = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
      tokens.add(kept['access_token']);
      // the second poll still has the token of the first; for the third its time is over
      if (count === 2) await writeFile(file, JSON.stringify({ ...kept, until: Date.now() + 60_000 }));
    }
    assert.equal(tokens.size, 2);
    assert.equal(await server.count('u1'), 0);
  });

  for (const mechanism of ['xoauth2', 'oauthbearer']) {
    test(`${mechanism}: a stale token in a file is refused with the reason, a fresh one is used at the next poll`, async (t) => {
      await using server = await startServer('dovecot', { users: 1, oauth: true });
      const mailferry = await Mailferry.create(t, configFor(server, { accessToken: { file: 'token' }, mechanism }));
      const file = join(mailferry.dir, 'token');
      await server.deliver('u1', [mail('one').octets]);
      await writeFile(file, 'stale-token-4711\n', { mode: 0o600 });
      const refused = await mailferry.run('sync');
      const said = refused.stdout + refused.stderr;
      assert.notEqual(refused.code, 0, said);
      assert.match(said, mechanism === 'xoauth2' ? /status 401, scope mail/ : /status invalid_token/);
      assert.match(said, /`accessToken`/);
      assert.doesNotMatch(said, /stale-token-4711/);
      assert.equal(await server.count('u1'), 1);
      await writeFile(file, 'good-u1\n');
      const { code, stderr } = await mailferry.run('sync');
      assert.equal(code, 0, stderr);
      assert.equal(await arrived(mailferry), 1);
      assert.equal(await server.count('u1'), 0);
    });
  }

  test('external: a client certificate is all it takes', async (t) => {
    const files = await certificates({ client: 'u1' });
    const settings = [
      `ssl_ca = <${files.caFile}`,
      'ssl_verify_client_cert = yes',
      'ssl_require_crl = no',
      'auth_ssl_username_from_cert = yes',
      'passdb {\n driver = static\n mechanisms = external\n args = nopassword\n}',
    ];
    await using server = await startServer('dovecot', {
      users: 1,
      env: { MECHS: 'plain external', EXTRA: settings.join('\n') },
    });
    const login = { mechanism: 'external', certFile: files.clientCertFile, keyFile: files.clientKeyFile };
    const mailferry = await Mailferry.create(t, configFor(server, login));
    await server.deliver('u1', [mail('one').octets]);
    const { code, stderr } = await mailferry.run('sync');
    assert.equal(code, 0, stderr);
    assert.equal(await arrived(mailferry), 1);
  });
});
