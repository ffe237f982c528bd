// Every way to log in against every server that knows it: with the right secret, with a wrong one, and left to choose.

import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import { inspect } from 'node:util';
import { Pop3Client } from '../../src/pop3/client.ts';
import type { Pop3Options } from '../../src/pop3/client.ts';
import { Pop3Error } from '../../src/pop3/error.ts';
import { certificates } from '../support/certificates.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { serversAvailable, startServer } from '../support/servers.ts';
import type { Pop3ServerName, RunningServer } from '../support/servers.ts';

assertNoLeaks();

type Security = Pop3Options['security'];

interface Expected {
  /** What is chosen if the account names nothing. */
  readonly chosen: string;
  /** The verbs of such a login without TLS: APOP is refused where it is offered without secrets, and the password follows. */
  readonly inClear: readonly string[];
  /** What works when it is named. */
  readonly works: readonly string[];
  /** What the server does not know, or has no secrets for. */
  readonly fails: readonly string[];
  readonly securities: readonly Security[];
  /** Whether a wrong password makes the server say [AUTH]. */
  readonly saysAuth: boolean;
}

const ALL: readonly Security[] = ['tls', 'starttls', 'none'];
const SASL = ['plain', 'login', 'cram-md5'];
const SCRAM = ['scram-sha-1', 'scram-sha-256'];

const EXPECTED: Readonly<Record<Pop3ServerName, Expected>> = {
  dovecot: {
    chosen: 'AUTH SCRAM-SHA-256',
    inClear: ['AUTH'],
    works: [...SCRAM, ...SASL, 'apop', 'user', 'xoauth2', 'oauthbearer'],
    fails: ['scram-sha-256-plus', 'external'],
    securities: ALL,
    saysAuth: true,
  },
  cyrus: {
    chosen: 'AUTH SCRAM-SHA-256',
    inClear: ['AUTH'],
    works: [...SCRAM, ...SASL, 'apop', 'user'],
    fails: ['scram-sha-256-plus'], // it lists that, and then knows `tls-unique` only
    securities: ALL,
    saysAuth: true,
  },
  courier: {
    chosen: 'AUTH CRAM-MD5',
    inClear: ['AUTH'],
    works: [...SASL, 'user'],
    fails: ['apop', 'scram-sha-256'],
    securities: ALL,
    saysAuth: false,
  },
  mailutils: {
    chosen: 'USER u1',
    inClear: ['APOP', 'USER', 'PASS'],
    works: ['user'],
    fails: ['apop', 'plain'],
    securities: ALL,
    saysAuth: true,
  },
  'solid-pop3d': {
    chosen: 'USER u1',
    inClear: ['APOP', 'USER', 'PASS'],
    works: ['user'],
    fails: ['apop', 'plain'],
    securities: ['tls', 'none'],
    saysAuth: false,
  },
  popa3d: {
    chosen: 'USER u1',
    inClear: ['USER', 'PASS'],
    works: ['user'],
    fails: ['apop', 'plain'],
    securities: ['tls', 'none'],
    saysAuth: false,
  },
};

const IS_LOGIN = /^(AUTH|APOP|USER|PASS) /;

interface Attempt {
  readonly security: Security;
  readonly mechanism?: string;
  readonly secret?: string;
}

/** Logs in as u1 and out again; the lines that the client sent. */
async function login(server: RunningServer, { security, mechanism, secret }: Attempt): Promise<string[]> {
  const sent: string[] = [];
  const isToken = mechanism === 'xoauth2' || mechanism === 'oauthbearer';
  const reveal = (): Promise<string> => Promise.resolve(secret ?? (isToken ? 'good-u1' : 'p1'));
  const client = await Pop3Client.open({
    host: 'localhost',
    port: security === 'tls' ? server.tlsPort : server.port,
    security,
    tls: { caFile: server.ca, fingerprint: undefined, serverName: undefined, certFile: undefined, keyFile: undefined },
    user: 'u1',
    ...(isToken ? { accessToken: reveal } : { password: reveal }),
    ...(mechanism === undefined ? {} : { mechanism }),
    timeout: 15_000,
    log: ({ direction, line }) => {
      if (direction === 'C') sent.push(line);
    },
  });
  await client.quit();
  return sent;
}

async function refusal(server: RunningServer, attempt: Attempt): Promise<Pop3Error> {
  try {
    await login(server, attempt);
  } catch (error) {
    assert(error instanceof Pop3Error, inspect(error));
    return error;
  }
  assert.fail('it was let in');
}

suite('logging in', { skip: serversAvailable() ?? false, concurrency: 2 }, () => {
  for (const [name, expected] of Object.entries(EXPECTED) as [Pop3ServerName, Expected][]) {
    test(name, async (context) => {
      await using server = await startServer(name, { users: 1, oauth: name === 'dovecot' });
      for (const security of expected.securities) {
        for (const mechanism of expected.works) {
          await context.test(`${security}: ${mechanism}`, async () => {
            const sent = await login(server, { security, mechanism });
            const verb = /^(user|apop)$/.test(mechanism) ? '' : 'AUTH ';
            assert(
              sent.some((line) => line.startsWith(verb + mechanism.toUpperCase())),
              sent.join('\n'),
            );
            assert(!sent.some((line) => line.startsWith('PASS ') && line.includes('p1')));
          });
        }
      }
      await context.test(`left to choose: ${expected.chosen}`, async () => {
        const sent = await login(server, { security: 'tls' });
        assert(sent.includes(expected.chosen), sent.join('\n'));
      });
      await context.test(`left to choose in the clear: ${expected.inClear.join(', ')}`, async () => {
        const verbs = async (): Promise<string[]> => {
          const sent = await login(server, { security: 'none' });
          const tries = sent.filter((line) => IS_LOGIN.test(line) && !line.endsWith('[response]'));
          return tries.map((line) => line.replace(/ .*/, ''));
        };
        assert.deepEqual(await verbs(), expected.inClear);
        // what was refused is not tried again in the next session
        assert.deepEqual(
          await verbs(),
          expected.inClear.filter((verb) => verb !== 'APOP'),
        );
      });
      await context.test(`not: ${expected.fails.join(', ')}`, async () => {
        for (const mechanism of expected.fails) await refusal(server, { security: 'tls', mechanism });
      });
      await context.test('a wrong secret', async () => {
        const mechanisms = name === 'dovecot' ? expected.works : expected.works.slice(0, 1);
        for (const mechanism of mechanisms) {
          const failure = await refusal(server, { security: 'tls', mechanism, secret: 'hunter2-wrong' });
          assert.equal(failure.kind, 'auth', `${mechanism}: ${failure.message}`);
          if (expected.saysAuth) assert.equal(failure.responseCode, 'AUTH', mechanism);
          assert.doesNotMatch(inspect(failure), /hunter2/);
          if (mechanism === 'xoauth2') assert.match(failure.message, /status 401, scope mail/);
          if (mechanism === 'oauthbearer') assert.match(failure.message, /status invalid_token/);
        }
      });
    });
  }

  test('dovecot: a client certificate in place of a password', async (context) => {
    const files = await certificates({ client: 'u1' });
    const settings = [
      `ssl_ca = <${files.caFile}`,
      'ssl_verify_client_cert = yes',
      'ssl_require_crl = no',
      'auth_ssl_username_from_cert = yes',
      'passdb {\n driver = static\n mechanisms = external\n args = nopassword\n}',
    ];
    const env = { MECHS: 'plain external', EXTRA: settings.join('\n') };
    await using server = await startServer('dovecot', { users: 2, env });
    const open = (user: string, mechanism?: string): Promise<Pop3Client> =>
      Pop3Client.open({
        host: 'localhost',
        port: server.tlsPort,
        security: 'tls',
        tls: {
          caFile: server.ca,
          fingerprint: undefined,
          serverName: undefined,
          certFile: files.clientCertFile,
          keyFile: files.clientKeyFile,
        },
        user,
        ...(mechanism === undefined ? {} : { mechanism }),
        timeout: 15_000,
      });
    await context.test('chosen, for want of a password', async () => (await open('u1')).quit());
    await context.test('named', async () => (await open('u1', 'external')).quit());
    await context.test('as somebody else', async () => {
      await assert.rejects(open('u2'), { kind: 'auth' });
    });
  });
});
