import assert from 'node:assert/strict';
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { inspect } from 'node:util';
import test, { suite } from 'node:test';
import * as fc from 'fast-check';
import { Failure } from '../../../src/failure.ts';
import type { Mechanism } from '../../../src/pop3/sasl/mechanism.ts';
import { createScram } from '../../../src/pop3/sasl/scram.ts';
import type { ScramName, ScramOptions } from '../../../src/pop3/sasl/scram.ts';

// any code point; fast-check's own unit for it takes a second to set up
const character = fc.integer({ min: 0, max: 0x10ffff }).map((point) => String.fromCodePoint(point));

const NOTHING = Buffer.alloc(0);

const SHA1 = {
  // RFC 5802 §5
  nonce: 'fyko+d2lbbFgONRv9qkxdawL',
  first: 'n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL',
  serverFirst: 'r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096',
  final: 'c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=',
  serverFinal: 'v=rmF9pqV8S7suAoZWja4dJRkFsKQ=',
};
const SHA256 = {
  // RFC 7677 §3
  nonce: 'rOprNGfwEbeRWgbNEkqO',
  first: 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO',
  serverFirst: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
  final: 'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
  serverFinal: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
};

function scram(options: Partial<ScramOptions> = {}): Mechanism {
  return createScram({
    name: 'SCRAM-SHA-256',
    user: 'user',
    password: 'pencil',
    nonce: SHA256.nonce,
    binding: { kind: 'unsupported' },
    ...options,
  });
}

async function say(mechanism: Mechanism, challenge: string): Promise<string> {
  return (await mechanism.respond(Buffer.from(challenge))).toString();
}

/** What the mechanism throws when told `challenge`, at once or later. */
async function refusal(mechanism: Mechanism, challenge: string): Promise<Failure> {
  try {
    await mechanism.respond(Buffer.from(challenge));
  } catch (error) {
    assert(error instanceof Failure, inspect(error));
    assert.equal(mechanism.verified?.(), false);
    return error;
  }
  assert.fail('it was accepted');
}

suite('SCRAM', () => {
  for (const [name, vector] of [
    ['SCRAM-SHA-1', SHA1],
    ['SCRAM-SHA-256', SHA256],
  ] as const) {
    test(`the example of the RFC: ${name}`, async () => {
      const mechanism = scram({ name, nonce: vector.nonce });
      assert.equal(mechanism.hasInitialResponse, true);
      assert.equal(await say(mechanism, ''), vector.first);
      assert.equal(await say(mechanism, vector.serverFirst), vector.final);
      assert.equal(mechanism.verified?.(), false, 'not before the server has proved itself');
      assert.deepEqual(await mechanism.respond(Buffer.from(vector.serverFinal)), NOTHING);
      assert.equal(mechanism.verified?.(), true);
      await refusal(mechanism, 'more');
    });
  }

  test('says whether the channel is bound', async () => {
    const binding = { type: 'tls-exporter', data: Buffer.from('0123456789abcdef0123456789abcdef') } as const;
    const bound = scram({ name: 'SCRAM-SHA-256-PLUS', binding: { kind: 'bound', binding } });
    assert.match(await say(bound, ''), /^p=tls-exporter,,n=user,r=/);
    const final = await say(bound, SHA256.serverFirst);
    const [, c = ''] = /^c=([^,]+),/.exec(final) ?? [];
    assert.equal(Buffer.from(c, 'base64').toString(), `p=tls-exporter,,${binding.data.toString()}`);

    const unoffered = scram({ binding: { kind: 'unoffered' } });
    assert.match(await say(unoffered, ''), /^y,,n=user,r=/);
    assert.match(await say(unoffered, SHA256.serverFirst), /^c=eSws,/);

    assert.throws(() => scram({ name: 'SCRAM-SHA-256-PLUS' }), TypeError);
    assert.throws(() => scram({ binding: { kind: 'bound', binding } }), TypeError);
  });

  test('escapes and prepares the user name', async () => {
    assert.match(await say(scram({ user: 'a=b,c' }), ''), /^n,,n=a=3Db=2Cc,r=/);
    assert.match(await say(scram({ user: 'I\u00adX\u2168' }), ''), /^n,,n=IXIX,r=/); // RFC 4013 §3
    assert.throws(() => scram({ user: '' }), { code: 'pop3.credentials', permanent: true });
    assert.throws(() => scram({ user: 'bad\u0007bell' }), { code: 'pop3.credentials' });
  });

  test('refuses what no honest server says, and says what it was', async () => {
    const start = `r=${SHA256.nonce}`;
    const cases: [string, RegExp][] = [
      ['', /server-first-message/],
      ['r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096', /nonce/],
      [`${start},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`, /nonce/],
      [`${start}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095`, /4095 iterations/],
      [`${start}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2000001`, /2000001 iterations/],
      [`${start}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=9999999999`, /iterations/],
      [`${start}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-4096`, /server-first-message/],
      [`${start}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096.5`, /server-first-message/],
      [`${start}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0x1000`, /server-first-message/],
      [`${start}x,s=,i=4096`, /server-first-message/],
      [`${start}x,s=W22Za*0S,i=4096`, /server-first-message/],
      [`${start}x,i=4096,s=W22ZaJ0SNY7soEsUEjb6gQ==`, /server-first-message/],
      [`m=new,${start}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`, /extension/],
      [`${start}${'x'.repeat(5000)},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`, /too long/],
      ['e=unknown-user', /refuses: unknown-user/],
    ];
    for (const [challenge, expected] of cases) {
      const mechanism = scram();
      await say(mechanism, '');
      assert.match((await refusal(mechanism, challenge)).message, expected, challenge);
      await refusal(mechanism, SHA256.serverFirst); // and is not to be talked into going on
    }
  });

  test('takes optional extensions, and as many iterations as storage is advised to have', async () => {
    const mechanism = scram();
    await say(mechanism, '');
    assert.match(await say(mechanism, `r=${SHA256.nonce}x,s=AAAA,i=600000,z=later`), /^c=biws,r=/);
  });

  test('refuses a server that does not know the password', async () => {
    for (const serverFinal of [
      'v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
      `v=${Buffer.alloc(32).toString('base64')}`,
      'v=AAAA',
      'v=',
      '',
      SHA1.serverFinal,
      'e=invalid-proof',
    ]) {
      const mechanism = scram();
      await say(mechanism, '');
      await say(mechanism, SHA256.serverFirst);
      await refusal(mechanism, serverFinal);
      await refusal(mechanism, SHA256.serverFinal);
    }
  });

  test('keeps what the server says printable, and the password out of sight', async () => {
    const mechanism = scram();
    await say(mechanism, '');
    const failure = await refusal(mechanism, 'e=bad\u001b[2J\nline');
    assert.equal(mechanism.failureDetail?.(), String.raw`bad\x1b[2J\x0aline`);
    assert.doesNotMatch(inspect(failure) + inspect(mechanism, { showHidden: true, depth: 9 }), /pencil/);
  });

  test('any server that knows the password verifies, any other does not', async () => {
    const names = fc.constantFrom<ScramName>('SCRAM-SHA-1', 'SCRAM-SHA-256');
    const password = fc.string({ minLength: 1, unit: character });
    await fc.assert(
      fc.asyncProperty(names, password, password, fc.uint8Array({ minLength: 1 }), async (name, ours, theirs, salt) => {
        const mechanism = scram({ name, password: ours });
        const first = await say(mechanism, '');
        const server = new Server(name, theirs, Buffer.from(salt));
        const serverFirst = server.first(first);
        const accepted = server.check(await say(mechanism, serverFirst));
        if (accepted) await say(mechanism, server.final());
        else await refusal(mechanism, server.final());
        assert.equal(mechanism.verified?.(), accepted);
        if (ours === theirs && /^[ -~]*$/.test(ours)) assert(accepted);
      }),
      { numRuns: 60 },
    );
  });

  test('random challenges are refused with a failure, never with anything else', async () => {
    const challenge = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((octets) => Buffer.from(octets)),
      fc.stringMatching(/^[rsiemv]=[!-~]{0,20}(,[rsiemv]=[!-~]{0,20}){0,3}$/).map((text) => Buffer.from(text)),
    );
    await fc.assert(
      fc.asyncProperty(challenge, async (octets) => {
        const mechanism = scram();
        await say(mechanism, '');
        await assert.rejects(async () => mechanism.respond(octets), Failure);
        assert.equal(mechanism.verified?.(), false);
      }),
    );
  });
});

/** A server's half of SCRAM, written apart from the client's. It prepares no password, as Dovecot does not. */
class Server {
  readonly #hash: 'sha1' | 'sha256';
  readonly #salted: Buffer;
  readonly #salt: Buffer;
  #messages: string[] = [];
  #nonce = '';

  constructor(name: ScramName, password: string, salt: Buffer) {
    this.#hash = name === 'SCRAM-SHA-1' ? 'sha1' : 'sha256';
    this.#salt = salt;
    this.#salted = pbkdf2Sync(password, salt, 4096, this.#hash === 'sha1' ? 20 : 32, this.#hash);
  }

  first(clientFirst: string): string {
    const bare = clientFirst.slice('n,,'.length);
    this.#nonce = `${bare.slice(bare.indexOf(',r=') + 3)}server`;
    const answer = `r=${this.#nonce},s=${this.#salt.toString('base64')},i=4096`;
    this.#messages = [bare, answer];
    return answer;
  }

  check(clientFinal: string): boolean {
    const [, withoutProof = '', proof = ''] = /^(c=biws,r=.*),p=([^,]+)$/.exec(clientFinal) ?? [];
    assert.equal(withoutProof, `c=biws,r=${this.#nonce}`);
    this.#messages.push(withoutProof);
    const storedKey = createHash(this.#hash).update(this.#hmac(this.#salted, 'Client Key')).digest();
    const signature = this.#hmac(storedKey, this.#messages.join(','));
    const key = Buffer.from(proof, 'base64').map((octet, index) => octet ^ (signature[index] ?? 0));
    return createHash(this.#hash).update(key).digest().equals(storedKey);
  }

  final(): string {
    return `v=${this.#hmac(this.#hmac(this.#salted, 'Server Key'), this.#messages.join(',')).toString('base64')}`;
  }

  #hmac(key: Buffer, text: string): Buffer {
    return createHmac(this.#hash, key).update(text).digest();
  }
}
