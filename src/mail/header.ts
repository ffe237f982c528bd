/** The header of a message as a list of fields (RFC 5322 §2.2), read from octets without changing or judging them. */

/** More header than this is not read; mail with more is delivered all the same. */
export const HEADER_LIMIT = 256 * 1024;

export interface HeaderField {
  /** As it stands there; compare in lower case. */
  readonly name: string;
  /** Unfolded, blanks at both ends removed, one character an octet (Latin-1). */
  readonly value: string;
}

const FIELD = /^([\x21-\x39\x3b-\x7e]+)[ \t]*:(.*)$/s;

/**
 * Finds where the header ends.
 * @returns the offset behind the empty line, or -1 if none has come yet
 */
export function endOfHeader(octets: Buffer): number {
  if (octets[0] === 0x0d && octets[1] === 0x0a) return 2;
  const at = octets.indexOf('\r\n\r\n', 0, 'latin1');
  return at < 0 ? -1 : at + 4;
}

/** The fields of a header block in their order. Lines that are no field (a broken header) are passed over. */
export function headerFields(header: Buffer): HeaderField[] {
  const fields: HeaderField[] = [];
  const unfolded = header.toString('latin1').replace(/\r?\n(?=[ \t])/g, '');
  for (const line of unfolded.split(/\r?\n/)) {
    if (line === '') break;
    const match = FIELD.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) fields.push({ name: match[1], value: match[2].trim() });
  }
  return fields;
}

/** The value of the first field of that name, in any case of letters. */
export function firstField(fields: readonly HeaderField[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  return fields.find((field) => field.name.toLowerCase() === wanted)?.value;
}
