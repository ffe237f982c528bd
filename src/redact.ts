/**
 * The last line of defence against a secret in a log: every secret that this process has revealed is known here, and each line
 * on its way out is searched for all of them. The only state that is shared by the whole process.
 */

const REPLACEMENT = '[secret]';
/** Shorter secrets would take ordinary words out of every line. */
const SHORTEST = 4;
/** Those that are shorter than this may be part of an ordinary word: they are replaced only where they stand alone. */
const ANYWHERE = 6;
const ALPHANUMERIC = /^[\p{L}\p{N}]/u;
/** An escape of JSON, of `printable` or of a URL: its last letter is not part of the word behind it. */
const ESCAPE = /(?:\\[bfnrt]|\\x[\da-f]{2}|\\u[\da-f]{4}|%[\da-f]{2})$/i;
/** Parts of a web address that are longer than words are: many services put a token there. */
const TOKEN = /^(?=.*\d).{16,}$/;
/** Header fields that carry credentials. */
const CREDENTIAL = /auth|token|key|secret|password|cookie|signature/i;

export class Redactor {
  /** By the first four characters. */
  readonly #secrets = new Map<string, Set<string>>();
  /** Marks every pair of characters that a secret begins with, so that a line without any costs next to nothing. */
  readonly #beginnings = new Uint8Array(0x10000);

  /** Remembers a secret, as it is and as JSON, base64 and URLs write it. */
  remember(secret: string): void {
    for (const form of formsOf(secret)) {
      const beginning = form.slice(0, SHORTEST);
      const known = this.#secrets.get(beginning);
      if (known) known.add(form);
      else this.#secrets.set(beginning, new Set([form]));
      this.#beginnings[pair(form, 0)] = 1;
    }
  }

  /** Forgets a secret that is out of use: access tokens come and go for as long as the process runs. */
  forget(secret: string): void {
    for (const form of formsOf(secret)) {
      const beginning = form.slice(0, SHORTEST);
      const known = this.#secrets.get(beginning);
      if (known?.delete(form) && known.size === 0) this.#secrets.delete(beginning);
    }
  }

  /** Remembers what is secret in a URL: its password, and what looks like a token in its path and query. */
  rememberUrl(text: string): void {
    const url = URL.parse(text);
    if (!url) return;
    if (url.password !== '') this.remember(decoded(url.password));
    for (const part of [...url.pathname.split('/').map(decoded), ...url.searchParams.values()])
      if (TOKEN.test(part)) this.remember(part);
  }

  /** Remembers the values of header fields whose names say that they are secret. */
  rememberHeaders(headers: Readonly<Record<string, string>>): void {
    for (const [name, value] of Object.entries(headers)) if (CREDENTIAL.test(name)) this.remember(value);
  }

  /** The text without any of them. */
  redact(text: string): string {
    let result = '';
    let copied = 0;
    for (let at = 0; at + SHORTEST <= text.length; at += 1) {
      if (this.#beginnings[pair(text, at)] === 0) continue;
      const length = this.#lengthAt(text, at);
      if (length === 0) continue;
      result += text.slice(copied, at) + REPLACEMENT;
      copied = at + length;
      at = copied - 1;
    }
    return copied === 0 ? text : result + text.slice(copied);
  }

  #lengthAt(text: string, at: number): number {
    let longest = 0;
    for (const secret of this.#secrets.get(text.slice(at, at + SHORTEST)) ?? []) {
      if (secret.length <= longest || !text.startsWith(secret, at)) continue;
      if (secret.length >= ANYWHERE || standsAlone(text, at, at + secret.length)) longest = secret.length;
    }
    return longest;
  }
}

/** True if what lies between is no part of a longer word. */
function standsAlone(text: string, from: number, to: number): boolean {
  const goesOn = ALPHANUMERIC.test(text.slice(to, to + 1)) && ALPHANUMERIC.test(text.slice(to - 1, to));
  const wentBefore = ALPHANUMERIC.test(text.slice(from - 1, from)) && ALPHANUMERIC.test(text.slice(from, from + 1));
  return !goesOn && (!wentBefore || ESCAPE.test(text.slice(Math.max(0, from - 6), from)));
}

/** A secret as it is, and as JSON, base64 and URLs write it. */
function formsOf(secret: string): string[] {
  const forms = new Set([
    secret,
    JSON.stringify(secret).slice(1, -1),
    encodeURIComponent(secret.toWellFormed()),
    Buffer.from(secret).toString('base64'),
  ]);
  return [...forms].filter((form) => form.length >= SHORTEST);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a lone `%`
  }
}

function pair(text: string, at: number): number {
  return ((text.charCodeAt(at) << 8) ^ text.charCodeAt(at + 1)) & 0xffff;
}

/** What this process has revealed so far. */
export const revealed: Redactor = new Redactor();
