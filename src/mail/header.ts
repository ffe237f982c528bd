/** The header of a message as a list of fields (RFC 5322 §2.2), read from octets without changing or judging them. */

/** More header than this is not read; mail with more is delivered all the same. */
export const HEADER_LIMIT = 256 * 1024;

export interface HeaderField {
  /** As it stands there; compare in lower case. */
  readonly name: string;
  /** Unfolded, blanks at both ends removed, one character an octet (Latin-1). */
  readonly value: string;
}

const NAME = /^[\x21-\x39\x3b-\x7e]+$/;

/**
 * Finds where the header ends.
 * @returns the offset behind the empty line, or -1 if none has come yet
 */
export function endOfHeader(octets: Buffer): number {
  if (octets[0] === 0x0d && octets[1] === 0x0a) return 2;
  const at = octets.indexOf('\r\n\r\n', 0, 'latin1');
  return at < 0 ? -1 : at + 4;
}

/** Names of fields, in lower case, and what they begin with: most lines of a header are passed over by their first letter. */
export class FieldNames {
  readonly #names: ReadonlySet<string>;
  readonly #initials = new Uint8Array(0x100);

  constructor(names: Iterable<string>) {
    this.#names = new Set(names);
    for (const name of this.#names)
      for (const initial of [name, name.toUpperCase()]) this.#initials[initial.charCodeAt(0)] = 1;
  }

  /** True if the line at that offset may be one of them. */
  mayBegin(text: string, at: number): boolean {
    return this.#initials[text.charCodeAt(at)] === 1;
  }

  has(name: string): boolean {
    return this.#names.has(name.toLowerCase());
  }
}

/**
 * The fields of a header block in their order. Lines that are no field (a broken header) are passed over.
 * @param wanted others are left out
 */
export function headerFields(header: Buffer, wanted?: FieldNames): HeaderField[] {
  const fields: HeaderField[] = [];
  const text = header.toString('latin1');
  for (let from = 0, to = 0; from < text.length; from = to + 1) {
    to = endOfLine(text, from);
    let isFolded = false;
    while (isBlank(text.charCodeAt(to + 1))) {
      to = endOfLine(text, to + 1);
      isFolded = true;
    }
    if (to === from || (to === from + 1 && text[from] === '\r' && to < text.length)) break;
    if (wanted && !wanted.mayBegin(text, from)) continue;
    const line = text.slice(from, to);
    const field = fieldIn(isFolded ? line.replace(/\r?\n/g, '') : line, wanted);
    if (field) fields.push(field);
  }
  return fields;
}

/** Space or tab. */
function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

function fieldIn(line: string, wanted: FieldNames | undefined): HeaderField | undefined {
  const colon = line.indexOf(':');
  let end = colon;
  while (end > 0 && isBlank(line.charCodeAt(end - 1))) end -= 1;
  if (end <= 0) return undefined;
  const name = line.slice(0, end);
  // One that is wanted is spelled well.
  const isField = wanted ? wanted.has(name) : NAME.test(name);
  return isField ? { name, value: line.slice(colon + 1).trim() } : undefined;
}

/** Where the line feed is, or the end. */
function endOfLine(text: string, from: number): number {
  const at = text.indexOf('\n', from);
  return at < 0 ? text.length : at;
}

/** The value of the first field of that name, in any case of letters. */
export function firstField(fields: readonly HeaderField[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  return fields.find((field) => field.name.toLowerCase() === wanted)?.value;
}
