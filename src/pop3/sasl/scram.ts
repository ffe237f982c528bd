/**
 * SCRAM-SHA-1, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677). The password never leaves this file, and the
 * server must prove that it knows it too. Channel binding data and the nonce come in as arguments.
 */

import { createHash, createHmac, pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import type { Failure } from '../../failure.ts';
import { printable, printableOctets } from '../../untrusted.ts';
import type { Mechanism } from './mechanism.ts';
import { preparePassword, prepareUser } from './prepare.ts';
import { violation } from './violation.ts';

export type ScramName = 'SCRAM-SHA-1' | 'SCRAM-SHA-256' | 'SCRAM-SHA-256-PLUS';

/** What ties an exchange to the TLS connection it runs in (RFC 5056). */
export interface ChannelBinding {
  /** RFC 9266 for TLS 1.3, RFC 5929 §4 before. */
  readonly type: 'tls-exporter' | 'tls-server-end-point';
  readonly data: Buffer;
}

/**
 * The gs2-cbind-flag (RFC 5802 §6): `bound`; `unoffered`: we could, but the server does not offer it (a server that
 * does notices that somebody cut its list); `unsupported`: we cannot, or were told not to.
 */
export type BindingUse =
  | { readonly kind: 'bound'; readonly binding: ChannelBinding }
  | { readonly kind: 'unoffered' }
  | { readonly kind: 'unsupported' };

export interface ScramOptions {
  readonly name: ScramName;
  readonly user: string;
  readonly password: string;
  /** Fresh random for each exchange: printable ASCII without a comma, at least 18 octets' worth. */
  readonly nonce: string;
  /** `bound` with the -PLUS mechanism, and only there. */
  readonly binding: BindingUse;
}

// RFC 7677 §4 and RFC 5802 §5.1: servers announce at least 4096; less would make a stolen exchange cheap to guess from.
const FEWEST_ITERATIONS = 4096;
// About a second of one core; OWASP's advice for storing is 600,000 (SHA-256) and 1,300,000 (SHA-1).
const MOST_ITERATIONS = 2_000_000;
// Nonce, salt and count need about 100 octets.
const LONGEST_MESSAGE = 4096;

const SERVER_FIRST = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9][0-9]{0,9})(?:,.*)?$/su;
const SERVER_FINAL = /^v=([A-Za-z0-9+/]+={0,2})(?:,.*)?$/su;
const SERVER_ERROR = /^e=([^,]*)/u;
const NONCE = /^[\x21-\x2b\x2d-\x7e]{8,}$/;

const derive = promisify(pbkdf2);

type Step = 'start' | 'first sent' | 'proof sent' | 'verified' | 'failed';

/** The mechanism for one exchange. Throws a `Failure` (`pop3.credentials`) for a user name that SCRAM cannot say. */
export function createScram(options: ScramOptions): Mechanism {
  return new Scram(options);
}

class Scram implements Mechanism {
  readonly name: ScramName;
  readonly hasInitialResponse = true;
  readonly #hash: 'sha1' | 'sha256';
  readonly #password: string;
  readonly #nonce: string;
  readonly #gs2Header: string;
  readonly #bindingData: Buffer;
  readonly #firstBare: string;
  #step: Step = 'start';
  #signature: Buffer = Buffer.alloc(0);
  #detail: string | undefined;

  constructor({ name, user, password, nonce, binding }: ScramOptions) {
    if ((binding.kind === 'bound') !== (name === 'SCRAM-SHA-256-PLUS')) {
      throw new TypeError(`${name} with a channel binding that is ${binding.kind}`);
    }
    if (!NONCE.test(nonce)) throw new TypeError('a SCRAM nonce is printable ASCII without a comma');
    this.name = name;
    this.#hash = name === 'SCRAM-SHA-1' ? 'sha1' : 'sha256';
    this.#password = preparePassword(password);
    this.#nonce = nonce;
    this.#gs2Header = gs2Header(binding);
    this.#bindingData = binding.kind === 'bound' ? binding.binding.data : Buffer.alloc(0);
    this.#firstBare = `n=${saslName(prepareUser(user))},r=${nonce}`;
  }

  respond(challenge: Buffer): Buffer | Promise<Buffer> {
    const step = this.#step;
    this.#step = 'failed'; // until this call has ended well: an exchange that broke off is not taken up again
    switch (step) {
      case 'start':
        this.#step = 'first sent';
        return Buffer.from(this.#gs2Header + this.#firstBare);
      case 'first sent':
        return this.#prove(challenge);
      case 'proof sent':
        return this.#checkServer(challenge);
      case 'verified':
      case 'failed':
        throw this.#broken('the server goes on after the end');
    }
  }

  verified(): boolean {
    return this.#step === 'verified';
  }

  failureDetail(): string | undefined {
    return this.#detail;
  }

  async #prove(challenge: Buffer): Promise<Buffer> {
    const serverFirst = this.#text(challenge);
    this.#noteError(serverFirst);
    if (serverFirst.startsWith('m=')) throw this.#broken('the server demands an extension that is not known here');
    const [, nonce, salt, count] = SERVER_FIRST.exec(serverFirst) ?? [];
    if (nonce === undefined || salt === undefined || count === undefined) {
      throw this.#broken('no valid server-first-message', challenge);
    }
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw this.#broken('the server did not add to the nonce'); // a replay of another exchange
    }
    const iterations = Number(count);
    if (iterations < FEWEST_ITERATIONS || iterations > MOST_ITERATIONS) {
      const bounds = `${String(FEWEST_ITERATIONS)} to ${String(MOST_ITERATIONS)}`;
      throw this.#broken(`the server asks for ${count} iterations, and only ${bounds} are accepted`);
    }

    const length = this.#hash === 'sha1' ? 20 : 32;
    const salted = await derive(this.#password, Buffer.from(salt, 'base64'), iterations, length, this.#hash);
    const bound = Buffer.concat([Buffer.from(this.#gs2Header), this.#bindingData]).toString('base64');
    const withoutProof = `c=${bound},r=${nonce}`;
    const authMessage = `${this.#firstBare},${serverFirst},${withoutProof}`;
    const clientKey = this.#hmac(salted, 'Client Key');
    const storedKey = createHash(this.#hash).update(clientKey).digest();
    const clientSignature = this.#hmac(storedKey, authMessage);
    this.#signature = this.#hmac(this.#hmac(salted, 'Server Key'), authMessage);
    this.#step = 'proof sent';
    const proof = clientKey.map((octet, index) => octet ^ (clientSignature[index] ?? 0));
    return Buffer.from(`${withoutProof},p=${Buffer.from(proof).toString('base64')}`);
  }

  #checkServer(challenge: Buffer): Buffer {
    const serverFinal = this.#text(challenge);
    this.#noteError(serverFinal);
    const [, verifier] = SERVER_FINAL.exec(serverFinal) ?? [];
    if (verifier === undefined) throw this.#broken('no valid server-final-message', challenge);
    const signature = Buffer.from(verifier, 'base64');
    if (signature.length !== this.#signature.length || !timingSafeEqual(signature, this.#signature)) {
      throw this.#broken('the server did not prove that it knows the password: it may not be the one it says it is');
    }
    this.#step = 'verified';
    return Buffer.alloc(0);
  }

  #noteError(message: string): void {
    const [, error] = SERVER_ERROR.exec(message) ?? [];
    if (error === undefined) return;
    this.#detail = printable(error, 100);
    throw this.#broken(`the server refuses: ${this.#detail}`);
  }

  #text(challenge: Buffer): string {
    if (challenge.length > LONGEST_MESSAGE) throw this.#broken('a challenge of the server is too long');
    return challenge.toString('utf8');
  }

  #hmac(key: Buffer, text: string): Buffer {
    return createHmac(this.#hash, key).update(text).digest();
  }

  #broken(what: string, challenge?: Buffer): Failure {
    return violation(this.name, what, challenge === undefined ? undefined : printableOctets(challenge, 100));
  }
}

function gs2Header(binding: BindingUse): string {
  switch (binding.kind) {
    case 'bound':
      return `p=${binding.binding.type},,`;
    case 'unoffered':
      return 'y,,';
    case 'unsupported':
      return 'n,,';
  }
}

/** RFC 5802 §5.1: `saslname`. Also that of a GS2 header (RFC 5801 §4), so OAUTHBEARER uses it. */
export function saslName(user: string): string {
  return user.replaceAll('=', '=3D').replaceAll(',', '=2C');
}
