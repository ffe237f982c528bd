import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import * as fc from 'fast-check';
import { afterRefusal, choose, METHODS } from '../../../src/pop3/sasl/choose.ts';
import type { Decision, Method, Question } from '../../../src/pop3/sasl/choose.ts';

const ALL = [...METHODS.filter((method) => method !== 'APOP' && method !== 'USER'), 'GSSAPI', 'SCRAM-SHA-1-PLUS'];
const PASSWORD = { password: true, token: false, certificate: false };
const TOKEN = { password: false, token: true, certificate: false };
const CERTIFICATE = { password: false, token: false, certificate: true };

interface Case {
  readonly sasl?: readonly string[] | undefined;
  readonly user?: boolean | 'unknown';
  readonly apop?: boolean;
  readonly credentials?: Question['credentials'];
  readonly tls?: boolean;
  readonly security?: Question['wire']['security'];
  readonly binding?: boolean;
  readonly named?: string;
}

function decide(given: Case): Decision {
  const tls = given.tls ?? true;
  return choose({
    offer: { sasl: given.sasl, user: given.user ?? false, apop: given.apop ?? false },
    credentials: given.credentials ?? PASSWORD,
    wire: { tls, security: given.security ?? (tls ? 'tls' : 'none'), binding: given.binding ?? tls },
    named: given.named,
  });
}

function methods(given: Case): string {
  return decide(given)
    .candidates.map(({ method }) => method)
    .join(' ');
}

suite('choosing a way to log in', () => {
  const everything = { sasl: ALL, user: true, apop: true } as const;
  const table: [string, Case, string][] = [
    [
      'strongest first, but for what is offered in vain',
      everything,
      'SCRAM-SHA-256 SCRAM-SHA-1 SCRAM-SHA-256-PLUS CRAM-MD5 PLAIN LOGIN USER APOP',
    ],
    ['no binding, no PLUS', { sasl: ALL, binding: false }, 'SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN'],
    ['a token', { ...everything, credentials: TOKEN }, 'OAUTHBEARER XOAUTH2'],
    ['a token at Microsoft', { sasl: ['PLAIN', 'XOAUTH2'], user: true, credentials: TOKEN }, 'XOAUTH2'],
    ['a certificate alone', { ...everything, credentials: CERTIFICATE }, 'EXTERNAL'],
    [
      'a certificate beside a password',
      { sasl: ['PLAIN', 'EXTERNAL'], credentials: { ...PASSWORD, certificate: true } },
      'PLAIN',
    ],
    [
      'the same, EXTERNAL named',
      { sasl: ['PLAIN', 'EXTERNAL'], credentials: { ...PASSWORD, certificate: true }, named: 'external' },
      'EXTERNAL',
    ],
    ['a certificate without TLS', { sasl: ['EXTERNAL'], credentials: CERTIFICATE, tls: false }, ''],
    ['Courier', { sasl: ['LOGIN', 'CRAM-MD5', 'PLAIN'], user: true }, 'CRAM-MD5 PLAIN LOGIN USER'],
    ['lower case', { sasl: ['plain', 'scram-sha-256'] }, 'SCRAM-SHA-256 PLAIN'],
    ['popa3d: no CAPA', { user: 'unknown' }, 'USER'],
    ['Solid: no CAPA, a timestamp', { user: 'unknown', apop: true, tls: false }, 'APOP USER'],
    ['Mailutils: no SASL', { user: true, apop: true, tls: false }, 'APOP USER'],
    ['the same within TLS', { user: true, apop: true }, 'USER APOP'],
    ['CAPA without any way', {}, 'USER'],
    ['CAPA with an empty list', { sasl: [] }, ''],
    [
      'no TLS, but that is the wish',
      { ...everything, tls: false },
      'SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN APOP USER',
    ],
    ['no TLS, against the wish', { ...everything, tls: false, security: 'starttls' }, ''],
    ['no TLS, against the wish, named', { ...everything, tls: false, security: 'tls', named: 'PLAIN' }, ''],
    ['one named', { ...everything, named: 'Scram-Sha-1' }, 'SCRAM-SHA-1'],
    ['user named', { sasl: ALL, named: 'user' }, 'USER'],
    ['apop named', { ...everything, named: 'apop' }, 'APOP'],
    ['apop named, no timestamp', { sasl: ALL, user: true, named: 'apop' }, ''],
    ['one named that the server lacks', { sasl: ['PLAIN'], named: 'SCRAM-SHA-256' }, ''],
    ['one named, no list', { user: 'unknown', named: 'PLAIN' }, 'PLAIN'],
    ['an unknown one named', { ...everything, named: 'DIGEST-MD5' }, ''],
    [
      'nothing to log in with',
      { ...everything, credentials: { password: false, token: false, certificate: false } },
      '',
    ],
  ];
  for (const [name, given, expected] of table) {
    test(`${name}: ${expected === '' ? 'none' : expected}`, () => {
      assert.equal(methods(given), expected);
      const { refusal } = decide(given);
      assert.equal(refusal !== undefined, expected === '');
    });
  }

  test('after a refusal: once more, by what shows the password itself', () => {
    const tries = (given: Case, code = ''): string => {
      const decision = decide(given);
      const [first] = decision.candidates;
      assert(first);
      const second = afterRefusal(decision, first.method, code);
      if (second) assert.equal(afterRefusal(decision, second.method, code), undefined);
      return [first, ...(second ? [second] : [])].map(({ method }) => method).join(' ');
    };
    const scram = { sasl: ['SCRAM-SHA-256', 'PLAIN'] };
    const apop = { user: 'unknown', apop: true, tls: false } as const;
    assert.equal(tries(everything), 'SCRAM-SHA-256 PLAIN');
    assert.equal(tries(scram, 'AUTH'), 'SCRAM-SHA-256');
    assert.equal(tries({ sasl: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1'] }), 'SCRAM-SHA-1');
    assert.equal(tries({ sasl: ['LOGIN', 'CRAM-MD5'], user: true }), 'CRAM-MD5 LOGIN');
    assert.equal(tries(apop), 'APOP USER');
    assert.equal(tries(apop, 'AUTH'), 'APOP USER');
    for (const code of ['IN-USE', 'SYS/TEMP', 'LOGIN-DELAY', 'X-NEW']) {
      assert.equal(tries(scram, code), 'SCRAM-SHA-256');
      assert.equal(tries(apop, code), 'APOP');
    }
    assert.equal(tries({ ...everything, named: 'apop' }), 'APOP');
    assert.equal(tries({ sasl: ['PLAIN', 'LOGIN'], user: true }), 'PLAIN');
    assert.equal(tries({ ...everything, credentials: TOKEN }), 'OAUTHBEARER');
  });

  test('the flag tells the server what we could do and think it offers (RFC 5802 §6)', () => {
    const flags = (given: Case): string[] => decide(given).candidates.map(({ binding }) => binding);
    assert.deepEqual(flags({ sasl: ['SCRAM-SHA-256', 'SCRAM-SHA-256-PLUS'] }), ['unsupported', 'bound']);
    assert.deepEqual(flags({ sasl: ['SCRAM-SHA-256'] }), ['unoffered']);
    assert.deepEqual(flags({ sasl: ['SCRAM-SHA-1', 'SCRAM-SHA-1-PLUS'] }), ['unsupported']);
    assert.deepEqual(flags({ sasl: ['SCRAM-SHA-256'], tls: false }), ['unsupported']);
    assert.deepEqual(flags({ sasl: ['SCRAM-SHA-256', 'SCRAM-SHA-256-PLUS'], named: 'SCRAM-SHA-256' }), ['unsupported']);
  });

  test('a mechanism that is not on any list gets no initial response', () => {
    assert.deepEqual(
      decide({ user: 'unknown', named: 'PLAIN' }).candidates.map(({ listed }) => listed),
      [false],
    );
    assert.deepEqual(
      decide({ sasl: ['plain'] }).candidates.map(({ listed }) => listed),
      [true],
    );
  });

  test('says what is wrong and what the server offers', () => {
    assert.deepEqual(decide({ sasl: ['PLAIN'], user: true, named: 'cram-md5' }).refusal, {
      message: 'CRAM-MD5: the server does not list it',
      remedy: 'The server offers PLAIN, USER.',
    });
    assert.match(decide({ sasl: [], tls: false, security: 'starttls' }).refusal?.message ?? '', /not encrypted/);
  });

  test('for any server and account: nothing in the clear unasked, each method once, in order, judged', () => {
    const flag = fc.boolean();
    fc.assert(
      fc.property(
        fc.record({
          offer: fc.record({
            sasl: fc.option(fc.subarray(ALL), { nil: undefined }),
            user: fc.constantFrom(true, false, 'unknown' as const),
            apop: flag,
          }),
          credentials: fc.record({ password: flag, token: flag, certificate: flag }),
          wire: fc.record({ tls: flag, security: fc.constantFrom('tls', 'starttls', 'none'), binding: flag }),
          named: fc.option(fc.constantFrom(...METHODS, 'user', 'apop', 'NTLM'), { nil: undefined }),
        }),
        (question) => {
          const { candidates, passed, refusal } = choose(question);
          if (!question.wire.tls && question.wire.security !== 'none') assert.equal(candidates.length, 0);
          if (question.named !== undefined) assert(candidates.length <= 1);
          assert.equal(refusal === undefined, candidates.length > 0);
          const late: readonly Method[] = question.wire.tls ? ['SCRAM-SHA-256-PLUS', 'APOP'] : ['SCRAM-SHA-256-PLUS'];
          const methodsFound = candidates.map(({ method }) => method);
          assert.equal(new Set(methodsFound).size, methodsFound.length);
          const order = methodsFound
            .filter((method) => !late.includes(method))
            .map((method) => METHODS.indexOf(method));
          assert.deepEqual(
            order,
            order.toSorted((a, b) => a - b),
          );
          if (candidates.length > 0) assert.equal(candidates.length + passed.length, METHODS.length);
          for (const { method, binding } of candidates) {
            assert.equal(binding === 'bound', method === 'SCRAM-SHA-256-PLUS');
            if (binding !== 'unsupported') assert(question.wire.binding);
          }
        },
      ),
    );
  });
});
