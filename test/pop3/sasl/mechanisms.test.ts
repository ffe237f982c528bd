import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import test, { suite } from 'node:test';
import * as fc from 'fast-check';
import { METHODS } from '../../../src/pop3/sasl/choose.ts';
import { createMechanism } from '../../../src/pop3/sasl/create.ts';
import type { Identity, SaslMethod } from '../../../src/pop3/sasl/create.ts';
import type { Mechanism } from '../../../src/pop3/sasl/mechanism.ts';

const IDENTITY: Identity = {
  user: 'user@example.com',
  password: 'correct horse',
  token: 'ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg',
  host: 'server.example.com',
  port: 995,
  nonce: 'rOprNGfwEbeRWgbNEkqO',
  binding: { type: 'tls-exporter', data: Buffer.alloc(32, 7) },
};
const SASL = METHODS.filter((method): method is SaslMethod => method !== 'APOP' && method !== 'USER');

function create(method: SaslMethod, identity: Partial<Identity> = {}): Mechanism {
  return createMechanism(
    method,
    { ...IDENTITY, ...identity },
    method === 'SCRAM-SHA-256-PLUS' ? 'bound' : 'unsupported',
  );
}

async function say(mechanism: Mechanism, challenge = ''): Promise<string> {
  return (await mechanism.respond(Buffer.from(challenge))).toString();
}

suite('mechanisms', () => {
  test('CRAM-MD5: the example of RFC 2195', async () => {
    const mechanism = create('CRAM-MD5', { user: 'tim', password: 'tanstaaftanstaaf' });
    assert.equal(mechanism.hasInitialResponse, false);
    const challenge = '<1896.697170952@postoffice.reston.mci.net>';
    assert.equal(await say(mechanism, challenge), 'tim b913a602c7eda7a495b4e6e7334d3890');
    await assert.rejects(say(mechanism, challenge), { code: 'pop3.sasl' });
    await assert.rejects(say(create('CRAM-MD5')), { code: 'pop3.sasl' });
    await assert.rejects(say(create('CRAM-MD5'), 'x'.repeat(5000)), { code: 'pop3.sasl' });
  });

  test('PLAIN: the example of RFC 4616', async () => {
    const mechanism = create('PLAIN', { user: 'tim', password: 'tanstaaftanstaaf' });
    assert.equal(mechanism.hasInitialResponse, true);
    assert.equal(await say(mechanism), '\0tim\0tanstaaftanstaaf');
    await assert.rejects(say(mechanism), { code: 'pop3.sasl' });
    assert.equal(
      await say(create('PLAIN', { password: 'p\u00e4ss \u{1f511}' })),
      '\0user@example.com\0p\u00e4ss \u{1f511}',
    );
    for (const unsayable of [{ user: '' }, { password: '' }, { user: 'a\0b' }, { password: 'a\0b' }]) {
      assert.throws(() => create('PLAIN', unsayable), { code: 'pop3.credentials', permanent: true });
    }
  });

  test('LOGIN: by the order of the questions, whatever they say', async () => {
    const mechanism = create('LOGIN');
    assert.equal(mechanism.hasInitialResponse, false);
    assert.equal(await say(mechanism, 'Username:'), 'user@example.com');
    assert.equal(await say(mechanism, 'Code secret?'), 'correct horse');
    await assert.rejects(say(mechanism, 'Password:'), { code: 'pop3.sasl' });
  });

  test('EXTERNAL: the user, or nobody in particular', async () => {
    assert.equal(await say(create('EXTERNAL')), 'user@example.com');
    const mechanism = create('EXTERNAL', { user: '' });
    assert.equal(await say(mechanism), '');
    await assert.rejects(say(mechanism), { code: 'pop3.sasl' });
    assert.throws(() => create('EXTERNAL', { user: 'a\0' }), { code: 'pop3.credentials' });
  });

  test("XOAUTH2: the example of Google's page", async () => {
    const mechanism = create('XOAUTH2', { user: 'someuser@example.com' });
    const expected =
      'dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ==';
    assert.equal(Buffer.from(await say(mechanism)).toString('base64'), expected);
    assert.equal(mechanism.verified?.(), true);
    assert.equal(mechanism.failureDetail?.(), undefined);
    assert.equal(await say(mechanism, '{"status":"401","schemes":"bearer","scope":"mail"}'), '');
    assert.equal(mechanism.failureDetail?.(), 'status 401, scope mail, schemes bearer');
    assert.equal(mechanism.verified?.(), false, 'an +OK would now be a lie');
    await assert.rejects(say(mechanism, '{}'), { code: 'pop3.sasl' });
  });

  test('OAUTHBEARER: the example of RFC 7628 §4.1, and the last word after an error', async () => {
    const mechanism = create('OAUTHBEARER', { port: 143 });
    assert.equal(
      await say(mechanism),
      'n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01',
    );
    const error = {
      status: 'invalid_token',
      scope: 'example_scope',
      'openid-configuration': 'https://example.com/.well-known/openid-configuration',
    };
    assert.equal(await say(mechanism, JSON.stringify(error)), '\x01');
    assert.equal(
      mechanism.failureDetail?.(),
      'status invalid_token, scope example_scope, openid-configuration https://example.com/.well-known/openid-configuration',
    );
    assert((await say(create('OAUTHBEARER', { user: 'a,b=c' }))).startsWith('n,a=a=2Cb=3Dc,\x01'));
  });

  test('a token that no token can be is refused before anything is sent', () => {
    for (const method of ['XOAUTH2', 'OAUTHBEARER'] as const) {
      for (const wrong of [
        { token: '' },
        { token: 'a b' },
        { token: 'a\x01b' },
        { token: 'a\n' },
        { user: 'a\x01b' },
      ]) {
        assert.throws(() => create(method, wrong), { code: 'pop3.credentials' });
      }
    }
  });

  test('no error challenge brings the token or a control into the log', async () => {
    const token = IDENTITY.token;
    const piece = fc.constantFrom(token, '"', '\u001b', '\n', '{', '}', ':', 'status', 'x'.repeat(90), '\u00fc', '\\');
    const text = fc.array(piece, { maxLength: 40 }).map((pieces) => pieces.join(''));
    const challenge = fc.oneof(
      text,
      text.map((status) => JSON.stringify({ status, scope: [status], error: status })),
      text.map((status) => `{"status":"${token}${status}`),
      fc.constantFrom('[]', 'null', '1', '"text"', '{"status":{}}', `${'y'.repeat(20_000)}${token}`),
    );
    await fc.assert(
      fc.asyncProperty(challenge, fc.constantFrom('XOAUTH2', 'OAUTHBEARER'), async (said, method) => {
        const mechanism = create(method);
        await say(mechanism);
        await say(mechanism, said);
        const detail = mechanism.failureDetail?.() ?? assert.fail('no detail');
        assert(!detail.includes(token.slice(0, 12)), detail);
        // oxlint-disable-next-line no-control-regex -- the point of the test
        assert.doesNotMatch(detail, /[\u0000-\u001f]/);
        assert(detail.length < 2000);
      }),
    );
  });

  test('no mechanism shows a secret when it is printed', () => {
    for (const method of SASL) {
      const mechanism = create(method);
      assert.equal(mechanism.name, method);
      const shown = inspect(mechanism, { showHidden: true, depth: 9 }) + JSON.stringify(mechanism);
      assert(!shown.includes(IDENTITY.password) && !shown.includes(IDENTITY.token), method);
    }
  });

  test('a machine for a bound exchange needs what to bind to', () => {
    assert.throws(() => createMechanism('SCRAM-SHA-256-PLUS', { ...IDENTITY, binding: undefined }, 'bound'), TypeError);
  });
});
