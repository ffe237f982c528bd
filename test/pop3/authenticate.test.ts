// Which way in is taken, and what a refusal means: by the response code and never by the wording, and two tries at most.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { inspect } from 'node:util';
import { Pop3Client } from '../../src/pop3/client.ts';
import type { Pop3Options } from '../../src/pop3/client.ts';
import type { Pop3Error } from '../../src/pop3/error.ts';
import { certificates } from '../support/certificates.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server, Pop3ServerOptions } from '../support/pop3-server.ts';
import { caFile } from '../support/tls.ts';

assertNoLeaks();

const SECRET = 'hunter2-Zq';

function open(server: Pop3Server, options: Partial<Pop3Options> = {}): Promise<Pop3Client> {
  return Pop3Client.open({
    host: server.host,
    port: server.port,
    security: 'none',
    user: 'jane',
    password: () => Promise.resolve(SECRET),
    timeout: 5000,
    ...options,
  });
}

function start(options: Pop3ServerOptions, context: { after(work: () => Promise<void>): void }): Promise<Pop3Server> {
  return startPop3Server({ users: { jane: SECRET, 'jane doe': ' two  blanks ' }, ...options }, context);
}

/** The commands of the login. */
function tries(server: Pop3Server): string[] {
  return server.sessions.flatMap(({ commands }) => commands).filter((line) => !/^(CAPA|QUIT|UTF8)/.test(line));
}

async function refusal(opening: Promise<unknown>): Promise<Pop3Error> {
  return await opening.then(
    () => assert.fail('it was let in'),
    (error: unknown) => error as Pop3Error,
  );
}

suite('the way in', () => {
  test('a server that lets us in without a proof that it knows the password is not believed', async (context) => {
    const server = await start({ capabilities: () => ['SASL SCRAM-SHA-256', 'UIDL', 'TOP'] }, context);
    server.rule({ on: /^AUTH/, reply: '+OK come in' });
    assert.match((await refusal(open(server))).message, /did not prove that it knows the password/);
  });

  for (const [title, options, expected] of [
    ['the strongest that both sides know', { sasl: ['PLAIN', 'LOGIN', 'CRAM-MD5'] }, /^AUTH CRAM-MD5$/],
    ['PLAIN in one line', { sasl: ['PLAIN'] }, /^AUTH PLAIN [A-Za-z0-9+/=]+$/],
    ['LOGIN', { sasl: ['LOGIN'] }, /^AUTH LOGIN$/],
    ['APOP in the clear', { greeting: '+OK ready <1.2@pop.example>' }, /^APOP jane [0-9a-f]{32}$/],
    ['USER and PASS', { greeting: '+OK ready <no msg-id>' }, /^USER jane$/],
  ] as const) {
    test(title, async (context) => {
      const server = await start(options, context);
      await (await open(server)).quit();
      assert.match(tries(server)[0] ?? '', expected);
    });
  }

  test('a password of blanks, a user with one', async (context) => {
    const server = await start({}, context);
    await (await open(server, { user: 'jane doe', password: () => Promise.resolve(' two  blanks ') })).quit();
    assert.deepEqual(tries(server), ['USER jane doe', 'PASS  two  blanks ']);
  });

  test('a line end in the password or user is no second command', async (context) => {
    const server = await start({}, context);
    for (const options of [
      { password: () => Promise.resolve('x\r\nDELE 1') },
      { user: 'jane\r\nQUIT' },
      { password: () => Promise.resolve('x'.repeat(300)) },
    ]) {
      const error = await refusal(open(server, options));
      assert.equal(error.kind, 'policy');
      assert.doesNotMatch(error.message, /xxxx/);
    }
    assert(!tries(server).some((line) => /DELE|QUIT/.test(line)));
  });

  test('an empty initial response is "=" (RFC 5034 §4): EXTERNAL as whoever the certificate says', async (context) => {
    const options = { tls: true, sasl: ['EXTERNAL'], rules: [{ on: /^AUTH/, reply: '+OK' }] };
    const server = await startPop3Server(options, context);
    const { clientCertFile, clientKeyFile } = await certificates({ client: 'u1' });
    const tls = {
      caFile,
      fingerprint: undefined,
      serverName: 'localhost',
      certFile: clientCertFile,
      keyFile: clientKeyFile,
    };
    const login = { host: server.host, port: server.port, security: 'tls', tls, user: '', timeout: 5000 } as const;
    (await Pop3Client.open(login)).abort();
    assert.deepEqual(tries(server), ['AUTH EXTERNAL =']);
  });

  for (const mechanism of ['xoauth2', 'oauthbearer']) {
    for (const length of [10, 2000, 9000]) {
      test(`${mechanism}, a token of ${String(length)} octets`, async (context) => {
        const token = 't'.repeat(length);
        const server = await start({ sasl: [mechanism.toUpperCase()], users: { jane: token } }, context);
        const accessToken = (): Promise<string> => Promise.resolve(token);
        const { password: _, ...login } = { password: undefined, accessToken, mechanism };
        const client = await Pop3Client.open({
          host: server.host,
          port: server.port,
          security: 'none',
          user: 'jane',
          timeout: 5000,
          ...login,
        });
        await client.quit();
        // in two steps: Office 365 refuses the other form, and 255 octets are the limit
        assert.equal(tries(server)[0] === `AUTH ${mechanism.toUpperCase()}`, mechanism === 'xoauth2' || length > 200);
      });
    }

    test(`${mechanism} refused: the error challenge is answered, decoded, and holds no token`, async (context) => {
      const server = await start({ sasl: [mechanism.toUpperCase()] }, context);
      const lines: string[] = [];
      const opening = Pop3Client.open({
        host: server.host,
        port: server.port,
        security: 'none',
        user: 'jane',
        accessToken: () => Promise.resolve('tok-wrong'),
        mechanism,
        timeout: 5000,
        log: ({ line }) => lines.push(line),
      });
      const error = await refusal(opening);
      assert.deepEqual([error.kind, error.scope, error.responseCode], ['auth', 'account', 'AUTH']);
      assert.match(error.message, mechanism === 'xoauth2' ? /status 401/ : /status invalid_token/);
      assert.doesNotMatch(inspect(error) + lines.join('\n'), /tok-wrong|dG9rLXdyb25n/);
      assert.equal(tries(server).at(-1), mechanism === 'xoauth2' ? '' : 'AQ==');
    });
  }
});

suite('a refusal', () => {
  const CODES = [
    ['-ERR [AUTH] no', 'auth', 'AUTH'],
    ['-ERR no', 'auth', undefined],
    ['-ERR mailbox locked, wait [IN-USE]', 'auth', undefined],
    ['-ERR [IN-USE] no', 'refused', 'IN-USE'],
    ['-ERR [in-use] wrong password', 'refused', 'IN-USE'],
    ['-ERR [LOGIN-DELAY] no', 'refused', 'LOGIN-DELAY'],
    ['-ERR [SYS/TEMP] no', 'refused', 'SYS/TEMP'],
    ['-ERR [SYS/PERM] no', 'refused', 'SYS/PERM'],
    ['-ERR [SYS/STRANGE] no', 'refused', 'SYS/STRANGE'],
    ['-ERR [X-NEW] no', 'refused', 'X-NEW'],
  ] as const;

  for (const [reply, kind, responseCode] of CODES) {
    for (const [where, options, on] of [
      ['PASS', {}, /^PASS/],
      ['AUTH', { sasl: ['PLAIN'] }, /^AUTH/],
      ['the greeting', {}, /^$/],
    ] as const) {
      test(`${reply} to ${where}`, async (context) => {
        const server = await start({ ...options, rules: [{ on, reply }] }, context);
        const lines: string[] = [];
        const error = await refusal(open(server, { log: ({ line }) => lines.push(line) }));
        assert.equal(error.scope, 'account');
        assert.equal(error.responseCode, responseCode);
        assert.equal(error.kind, where === 'the greeting' && kind === 'auth' ? 'refused' : kind);
        assert.equal(error.permanent, false);
        assert.equal(error.said, reply);
        assert.doesNotMatch(inspect(error) + lines.join('\n'), new RegExp(`${SECRET}|${btoa(`\0jane\0${SECRET}`)}`));
      });
    }
  }

  test('with [AUTH] is the end: no other method with the same password', async (context) => {
    const options = { sasl: ['PLAIN', 'LOGIN', 'CRAM-MD5'], greeting: '+OK <1.2@pop.example>' };
    const server = await start({ ...options, users: { jane: 'another' } }, context);
    await refusal(open(server));
    assert.equal(tries(server).filter((line) => /^(AUTH|APOP|PASS) ?/.test(line)).length, 1);
    assert.equal(server.sessions.length, 1);
  });

  test('of an exchange that makes no sense: cancelled', async (context) => {
    for (const [sasl, challenge, last] of [
      ['CRAM-MD5', '+ no base64!', '*'],
      ['PLAIN', '+ ', undefined],
    ] as const) {
      const server = await start({ sasl: [sasl], rules: [{ on: /^AUTH/, raw: `${challenge}\r\n` }] }, context);
      await refusal(open(server));
      if (last !== undefined) assert.equal(tries(server).at(-1), last);
      assert(tries(server).length < 20);
    }
  });

  test('the connection ends instead of an answer: not the password’s fault', async (context) => {
    const server = await start({ rules: [{ on: /^PASS/, cutAfter: 0 }] }, context);
    assert.equal((await refusal(open(server))).kind, 'closed');
    server.rule({ on: /^PASS/, stallAfter: 0 });
    assert.equal((await refusal(open(server, { timeout: 200 }))).kind, 'timeout');
    server.rule({ on: /^$/, cutAfter: 0 });
    assert.equal((await refusal(open(server))).kind, 'closed');
  });
});

suite('the second try', () => {
  const STAMP = { greeting: '+OK <1.2@pop.example>' };

  for (const [title, options, first, second] of [
    ['APOP without a code', { ...STAMP, rules: [{ on: /^APOP/, reply: '-ERR no' }] }, /^APOP/, /^PASS/],
    ['APOP, then hung up', { ...STAMP, rules: [{ on: /^APOP/, reply: '-ERR no', cutAfter: 9 }] }, /^APOP/, /^PASS/],
    ['APOP with [AUTH]', { ...STAMP, rules: [{ on: /^APOP/, reply: '-ERR [AUTH] no' }] }, /^APOP/, /^PASS/],
    [
      'CRAM-MD5 without a code',
      { sasl: ['CRAM-MD5', 'PLAIN'], rules: [{ on: /^AUTH\*/, reply: '-ERR no' }] },
      /^AUTH CRAM-MD5/,
      /^AUTH PLAIN/,
    ],
  ] as const) {
    test(`after ${title}: the password itself, in a session of its own; the next one begins with it`, async (context) => {
      const server = await start({ ...options, rules: [...options.rules] }, context);
      await (await open(server)).quit();
      assert.equal(server.sessions.length, 2);
      const [before = [], after = []] = server.sessions.map(({ commands }) => commands);
      assert(before.some((line) => first.test(line)) && !before.some((line) => second.test(line)));
      assert(after.some((line) => second.test(line)) && !after.some((line) => first.test(line)));
      await (await open(server)).quit();
      assert.equal(server.sessions.length, 3);
    });
  }

  test('is the last one, and what it says counts', async (context) => {
    const rules = [
      { on: /^APOP/, reply: '-ERR first' },
      { on: /^PASS/, reply: '-ERR second' },
    ];
    const server = await start({ ...STAMP, rules }, context);
    const error = await refusal(open(server));
    assert.deepEqual([error.kind, error.said], ['auth', '-ERR second']);
    assert.equal(tries(server).filter((line) => /^(AUTH|APOP|PASS)/.test(line)).length, 2);
    assert.equal(server.sessions.length, 2);
  });

  test('that gets no answer leaves the first one standing: the login was refused', async (context) => {
    const rules = [
      { on: /^APOP/, reply: '-ERR first' },
      { on: /^USER/, cutAfter: 0 },
    ];
    const server = await start({ ...STAMP, rules }, context);
    const error = await refusal(open(server));
    assert.deepEqual([error.kind, error.said], ['auth', '-ERR first']);
  });

  for (const reply of ['-ERR [IN-USE] no', '-ERR [SYS/TEMP] no', '-ERR [LOGIN-DELAY] no']) {
    test(`there is none after ${reply}`, async (context) => {
      const server = await start({ ...STAMP, rules: [{ on: /^APOP/, reply }] }, context);
      assert.equal((await refusal(open(server))).said, reply);
      assert.equal(server.sessions.length, 1);
    });
  }

  test('there is none for a mechanism that the account names, or once the account is stopped', async (context) => {
    const server = await start({ ...STAMP, rules: [{ on: /^APOP/, reply: '-ERR no' }] }, context);
    await refusal(open(server, { mechanism: 'apop' }));
    assert.equal(server.sessions.length, 1);
    const stop = new AbortController();
    const log = ({ line }: { line: string }): void => {
      if (line === '-ERR no') stop.abort();
    };
    await refusal(open(server, { signal: stop.signal, log }));
    assert.equal(server.sessions.length, 2);
  });
});

suite('mail that wants UTF8 (RFC 6856 §5)', () => {
  /** A server that says so in [UTF8] alone. */
  const shy = { utf8: 'offered', capabilities: () => ['USER', 'UIDL', 'TOP'] } as const;
  const said = (server: Pop3Server): boolean[] => server.sessions.map(({ commands }) => commands.includes('UTF8'));

  test('a login refused with [UTF8] is made again behind UTF8', async (context) => {
    const server = await start(
      { ...shy, rules: [{ on: /^PASS/, times: 1, reply: '-ERR [UTF8] say it first' }] },
      context,
    );
    await (await open(server)).quit();
    assert.deepEqual(said(server), [false, true]);
    await (await open(server)).quit();
    assert.deepEqual(said(server), [false, true, true]);
  });

  test('a server that is not content with UTF8 either is not asked for ever', async (context) => {
    const server = await start({ ...shy, rules: [{ on: /^PASS/, reply: '-ERR [UTF8] say it first' }] }, context);
    const error = await refusal(open(server));
    assert.deepEqual([error.kind, error.responseCode], ['refused', 'UTF8']);
    assert.equal(server.sessions.length, 2);
  });

  for (const [title, ask] of [
    ['RETR', (client: Pop3Client) => client.retrieve(1, { write: () => undefined })],
    ['TOP', (client: Pop3Client) => client.top(1, 0)],
    ['LIST', (client: Pop3Client) => client.listing()],
  ] as const) {
    test(`${title} refused with [UTF8]: the next session says UTF8, and gets it`, async (context) => {
      const server = await start({ ...shy, utf8: 'demanded' }, context);
      server.drop().add('Subject: gr\u00fc\u00df\r\n\r\nx\r\n');
      const first = await open(server);
      await assert.rejects(ask(first), { kind: 'refused', responseCode: 'UTF8' });
      await first.quit();
      const second = await open(server);
      await ask(second);
      await second.quit();
      assert.deepEqual(said(server), [false, true]);
    });
  }
});

suite('one session at a time, and not too often', () => {
  test('[IN-USE] and [LOGIN-DELAY] by a server that means it', async (context) => {
    const server = await start({}, context);
    const client = await open(server);
    assert.equal((await refusal(open(server))).responseCode, 'IN-USE');
    await client.quit();
    server.behaviour.loginDelay = 60;
    const early = await refusal(open(server));
    assert.deepEqual([early.responseCode, early.loginDelay], ['LOGIN-DELAY', 60]);
  });
});
