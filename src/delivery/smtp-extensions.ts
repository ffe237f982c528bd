/** What an SMTP server says that it can do, from its reply to EHLO (RFC 5321 §4.1.1.1; pure). */

/** Keywords in upper case with their parameters. Empty for a server that knows HELO only. */
export type Extensions = ReadonlyMap<string, readonly string[]>;

/** Reads the reply to EHLO, codes included, as it came. */
export function parseExtensions(reply: string): Extensions {
  const extensions = new Map<string, readonly string[]>();
  for (const line of reply.split(/\r?\n/).slice(1, 200)) {
    // "AUTH=LOGIN" is an old form of "AUTH LOGIN" that some servers still send beside it
    const [keyword, ...parameters] = line
      .replace(/^\d{3}[ -]/, '')
      .trim()
      .split(/[ \t=]+/);
    if (keyword === undefined || keyword === '') continue;
    const name = keyword.toUpperCase();
    extensions.set(name, [...(extensions.get(name) ?? []), ...parameters]);
  }
  return extensions;
}

/** The largest message the server takes, in octets (RFC 1870 §4); undefined if it names none. */
export function sizeLimit(extensions: Extensions): number | undefined {
  const value = extensions.get('SIZE')?.[0];
  const limit = value !== undefined && /^\d{1,15}$/.test(value) ? Number(value) : 0;
  return limit > 0 ? limit : undefined;
}
