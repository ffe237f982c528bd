import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { SmtpConfig, TlsConfig } from '../../src/config/types.ts';
import { openSmtp } from '../../src/delivery/smtp.ts';
import { Failure } from '../../src/failure.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { startSmtpWire } from '../support/smtp-wire.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { caFile, certificateFiles, fingerprintOfCertificate } from '../support/tls.ts';

assertNoLeaks();

const PASSWORD = 'correct horse';
const NO_TLS: TlsConfig = {
  caFile: undefined,
  fingerprint: undefined,
  serverName: undefined,
  certFile: undefined,
  keyFile: undefined,
};
const context = { hostName: 'ferry.test', now: () => new Date() };

function configFor(place: { host: string; port: number }, changes: Partial<SmtpConfig>): SmtpConfig {
  return {
    name: 'me',
    type: 'smtp',
    concurrency: 3,
    timeout: 5000,
    host: place.host,
    port: place.port,
    security: 'none',
    tls: NO_TLS,
    auth: undefined,
    to: ['me@example.net'],
    from: { kind: 'original' },
    trace: true,
    helo: undefined,
    ...changes,
  };
}

function login(password = PASSWORD): NonNullable<SmtpConfig['auth']> {
  return { user: 'jane', password: { reveal: () => Promise.resolve(password) } };
}

/** Checks and delivers; both must come to the same. `ok`, or the failure of the check. */
async function tryOut(config: SmtpConfig): Promise<Failure | string> {
  const destination = openSmtp(config, context);
  try {
    const outcome = await destination.deliver(deliveryOf(storedMessage('Subject: x\r\n\r\nx\r\n')));
    try {
      const words = await destination.check(new AbortController().signal);
      assert.equal(outcome.kind, 'confirmed');
      return words;
    } catch (error) {
      assert.ok(error instanceof Failure);
      assert.equal(error.scope, 'destination');
      assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
      assert.ok(outcome.said.includes(error.message), outcome.said);
      assert.ok(error.remedy === undefined || outcome.said.includes(error.remedy), outcome.said);
      assert.ok(!JSON.stringify({ outcome, error }).includes(PASSWORD));
      return error;
    }
  } finally {
    await destination.close();
  }
}

async function failureOf(config: SmtpConfig): Promise<Failure> {
  const result = await tryOut(config);
  assert.ok(result instanceof Failure, String(result));
  return result;
}

for (const security of ['tls', 'starttls'] as const) {
  suite(security, { concurrency: true }, () => {
    test('is verified against the authority', async () => {
      await using sink = await startSmtpSink({ security });
      assert.match(
        String(await tryOut(configFor(sink, { security, tls: { ...NO_TLS, caFile } }))),
        /TLSv1\.3, no login/,
      );
      assert.equal(sink.messages[0]?.secure, true);
    });

    test('is refused with a certificate that nobody vouches for, of another name, or out of date', async () => {
      const cases = [
        ['server', undefined, /as caFile/],
        ['wrong-name', caFile, /serverName/],
        ['expired', caFile, /renewed/],
      ] as const;
      for (const [certificate, authority, remedy] of cases) {
        await using sink = await startSmtpSink({ security, certificate });
        const failure = await failureOf(
          configFor(sink, { security, tls: { ...NO_TLS, caFile: authority }, auth: login() }),
        );
        assert.equal(failure.code, 'smtp.tls');
        assert.match(failure.remedy ?? '', remedy);
        assert.equal(sink.messages.length, 0);
      }
    });

    test('takes a pinned certificate whatever else is wrong with it, and no other', async () => {
      await using sink = await startSmtpSink({ security, certificate: 'expired' });
      const pin = (name: 'expired' | 'server'): TlsConfig => ({
        ...NO_TLS,
        fingerprint: fingerprintOfCertificate(name),
      });
      assert.equal(typeof (await tryOut(configFor(sink, { security, tls: pin('expired') }))), 'string');
      assert.equal((await failureOf(configFor(sink, { security, tls: pin('server') }))).code, 'tls.fingerprint');
    });

    test('checks the name it was told to', async () => {
      await using sink = await startSmtpSink({ security, certificate: 'wrong-name' });
      const tls = { ...NO_TLS, caFile, serverName: 'wrong.example' };
      assert.equal(typeof (await tryOut(configFor(sink, { security, tls }))), 'string');
    });

    test('names a file that is not there', async () => {
      await using sink = await startSmtpSink({ security });
      const failure = await failureOf(configFor(sink, { security, tls: { ...NO_TLS, caFile: '/nowhere/ca.pem' } }));
      assert.match(`${failure.message} ${failure.remedy ?? ''}`, /\/nowhere\/ca\.pem.*tls\.caFile/);
    });
  });
}

test('a server that wants a client certificate gets ours, and nobody without one gets in', async (t) => {
  for (const security of ['tls', 'starttls'] as const) {
    const sink = await startSmtpSink({ security, clientAuthority: caFile });
    t.after(() => sink.close());
    const known = configFor(sink, { security, tls: { ...NO_TLS, caFile, ...certificateFiles('client') } });
    assert.equal(typeof (await tryOut(known)), 'string');
    assert.equal(sink.messages.length, 1);
    const unknown = configFor(sink, { security, tls: { ...NO_TLS, caFile } });
    assert.equal((await failureOf(unknown)).scope, 'destination');
    assert.equal(sink.messages.length, 1);
  }
});

suite('starttls', { concurrency: true }, () => {
  test('is never done without', async () => {
    await using sink = await startSmtpSink({ security: 'none' });
    const failure = await failureOf(configFor(sink, { security: 'starttls', auth: login() }));
    assert.equal(failure.code, 'smtp.tls');
    assert.equal(sink.messages.length, 0);
  });

  test('throws away what came before the handshake', async () => {
    // the classic injection: replies in the clear, glued to the one that starts TLS
    await using wire = await startSmtpWire({
      extensions: ['STARTTLS'],
      answer: (command) => (command === 'STARTTLS' ? '220 go\r\n250-wire\r\n250 AUTH PLAIN\r\n235 welcome' : undefined),
    });
    const failure = await failureOf(configFor(wire, { security: 'starttls', auth: login() }));
    assert.equal(failure.code, 'smtp.tls');
    assert.ok(!wire.commands.some((command) => command.startsWith('AUTH') || command.startsWith('MAIL')));
  });
});

suite('login', { concurrency: true }, () => {
  for (const method of ['PLAIN', 'LOGIN', 'CRAM-MD5']) {
    test(`by ${method}`, async () => {
      const auth = { user: 'jane', password: PASSWORD, methods: [method] };
      await using sink = await startSmtpSink({ security: 'tls', auth });
      const config = configFor(sink, { security: 'tls', tls: { ...NO_TLS, caFile }, auth: login() });
      assert.match(String(await tryOut(config)), /logged in as jane/);
      assert.equal(sink.messages[0]?.user, 'jane');
    });
  }

  test('with a wrong password says where the right one goes', async () => {
    await using sink = await startSmtpSink({ security: 'tls', auth: { user: 'jane', password: PASSWORD } });
    const failure = await failureOf(
      configFor(sink, { security: 'tls', tls: { ...NO_TLS, caFile }, auth: login('wrong') }),
    );
    assert.equal(failure.code, 'smtp.auth');
    assert.match(failure.said ?? '', /^535 /);
    assert.match(failure.remedy ?? '', /auth\.password of destination me/);
  });

  test('that is not possible now is no wrong password', async () => {
    await using sink = await startSmtpSink({ auth: { user: 'jane', password: PASSWORD } });
    sink.when({ stage: 'auth', action: { reply: [454, '4.7.0 try later'] } });
    const failure = await failureOf(configFor(sink, { auth: login() }));
    assert.match(failure.message, /not possible now/);
  });

  test('where none is offered says what to change', async () => {
    await using sink = await startSmtpSink();
    const failure = await failureOf(configFor(sink, { auth: login() }));
    assert.match(failure.remedy ?? '', /set security to starttls or tls/);
  });

  test('that is required but not configured is about the destination', async () => {
    await using sink = await startSmtpSink({ auth: { user: 'jane', password: PASSWORD } });
    const destination = openSmtp(configFor(sink, {}), context);
    const outcome = await destination.deliver(deliveryOf(storedMessage('Subject: x\r\n\r\nx\r\n')));
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    assert.match(outcome.said, /^530 /);
    await destination.close();
  });
});

test('nobody there', async () => {
  const sink = await startSmtpSink();
  const config = configFor({ host: sink.host, port: sink.port }, {});
  await sink.close();
  const failure = await failureOf(config);
  assert.equal(failure.code, 'smtp.connect');
  assert.match(failure.message, /ECONNREFUSED/);
});
