/** What a server's output means, read octet by octet and without any care for speed: what the engine is measured against. */

/** What follows +OK: nothing; nothing, and a challenge is allowed; a list; a message. */
export type Wanted = 'none' | 'auth' | 'lines' | 'message';

export interface Outcome {
  readonly kind: 'ok' | 'err' | 'continue' | 'lost';
  /** Un-stuffed octets of the message; lines of the list, each with LF. */
  readonly given: string;
}

const LOST: Outcome = { kind: 'lost', given: '' };

/** The outcome of each command if the server says these octets and hangs up. */
export function parseByOctet(
  octets: Buffer,
  wanted: readonly Wanted[],
  limits: { readonly lines: number; readonly octets: number },
  lineLimit: number,
): Outcome[] {
  const text = octets.toString('latin1');
  let at = 0;
  let isOver = false;

  /** undefined: the connection is of no more use. */
  function line(): string | undefined {
    let found = '';
    while (at < text.length) {
      const octet = text[at] ?? '';
      at += 1;
      if (octet === '\n') return found.length > lineLimit ? undefined : found.replace(/\r$/, '');
      found += octet;
    }
    return undefined;
  }

  function list(): string | undefined {
    let given = '';
    let total = 0;
    for (let count = 0; ; count += 1) {
      const one = line();
      if (one === undefined) return undefined;
      if (one === '.') return given;
      total += one.length;
      if (count >= limits.lines || total > limits.octets) return undefined;
      given += `${one.startsWith('.') ? one.slice(1) : one}\n`;
    }
  }

  function message(): string | undefined {
    let given = '';
    let isLineStart = true;
    while (at < text.length) {
      if (isLineStart && text[at] === '.') {
        if (text.slice(at, at + 3) === '.\r\n') {
          at += 3;
          return given;
        }
        at += 1;
        if (at === text.length) return undefined;
      }
      given += text[at] ?? '';
      at += 1;
      isLineStart = text.slice(at - 2, at) === '\r\n';
    }
    return undefined;
  }

  function outcome(want: Wanted): Outcome {
    const status = line();
    if (status === undefined) return LOST;
    if (/^-ERR/i.test(status)) return { kind: 'err', given: '' };
    if (/^\+OK/i.test(status)) {
      const given = want === 'lines' ? list() : want === 'message' ? message() : '';
      return given === undefined ? LOST : { kind: 'ok', given };
    }
    const isChallenge = status === '+' || status.startsWith('+ ');
    return isChallenge && want === 'auth' ? { kind: 'continue', given: '' } : LOST;
  }

  return wanted.map((want) => {
    const found = isOver ? LOST : outcome(want);
    isOver ||= found === LOST;
    return found;
  });
}
