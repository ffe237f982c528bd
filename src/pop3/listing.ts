/**
 * UIDL and LIST as one listing (RFC 1939 §5, §7). Where they disagree, mail came in between: such messages are for the next
 * session. It never takes a refusal for an empty maildrop.
 */

import type { Capabilities } from './capabilities.ts';
import type { Engine } from './engine.ts';
import { Pop3Error } from './error.ts';
import { parseNumbered } from './reply.ts';

/** Messages of one maildrop, and octets of one list: some 100 octets of memory for each message. */
const MESSAGES = 2_000_000;
const OCTETS = 128 * 1024 * 1024;
/** RFC 1939 says 70; longer ones were seen. Longer than this is no unique-id. */
const UNIQUE_ID_LIMIT = 1000;

export interface ListingEntry {
  readonly messageNumber: number;
  /** One character an octet; undefined if the server gives none. */
  readonly uniqueId: string | undefined;
  /** Octets, as LIST says: a hint. */
  readonly size: number | undefined;
}

export interface Listing {
  /** In the order of message numbers, none of them twice. */
  readonly entries: readonly ListingEntry[];
  readonly hasUniqueIds: boolean;
}

/** One list as it came: a number, and what stood beside it. */
interface Scan<T> {
  readonly numbers: number[];
  readonly values: T[];
}

/** Asks for both, in one go where the server allows it. @throws Pop3Error */
export async function readListing(engine: Engine, capabilities: Capabilities, server: string): Promise<Listing> {
  const askUniqueIds = (): Promise<Scan<string> | undefined> =>
    // Asked for even where CAPA does not name it: a server that lacks it says so.
    ask(engine, server, 'UIDL', capabilities.announced && capabilities.uidl, (rest) =>
      rest !== '' && rest.length <= UNIQUE_ID_LIMIT ? rest : undefined,
    );
  const [first, sizes] = await Promise.all([
    askUniqueIds(),
    ask(engine, server, 'LIST', false, (rest) => {
      const digits = /^\d{1,15}(?!\d)/.exec(rest)?.[0];
      return digits === undefined ? undefined : Number(digits);
    }),
  ]);
  if (!first && !sizes) throw malformed(server, 'the server refuses to list the maildrop');
  if (!first) return { entries: merge(sizes, undefined, sizes), hasUniqueIds: false };
  // Mail that came behind UIDL is in LIST: asked once more, so that it need not wait for another session.
  const uniqueIds = sizes && sizes.numbers.length > first.numbers.length ? ((await askUniqueIds()) ?? first) : first;
  if (uniqueIds.numbers.length === 0 && sizes && sizes.numbers.length > 0)
    throw malformed(server, 'UIDL gives an empty list where LIST does not');
  return { entries: merge(uniqueIds, uniqueIds, sizes), hasUniqueIds: true };
}

/**
 * @param isCertain the server says that it knows the command: then it must not refuse it
 * @returns undefined if the server refuses the command for good
 */
async function ask<T>(
  engine: Engine,
  server: string,
  command: 'UIDL' | 'LIST',
  isCertain: boolean,
  read: (rest: string) => T | undefined,
): Promise<Scan<T> | undefined> {
  const scan: Scan<T> = { numbers: [], values: [] };
  let latest = 0;
  let isSorted = true;
  const take = (line: Buffer): void => {
    const parsed = parseNumbered(line);
    const value = parsed && read(parsed.rest);
    if (!parsed || value === undefined) throw malformed(server, `a line of ${command} cannot be read`);
    if (parsed.messageNumber <= latest) isSorted = false;
    latest = parsed.messageNumber;
    scan.numbers.push(latest);
    scan.values.push(value);
  };
  try {
    await engine.send({
      line: command,
      shown: command,
      body: { kind: 'lines', take, lines: MESSAGES, octets: OCTETS },
    });
  } catch (error) {
    // Without LIST sizes are unknown, without UIDL unique-ids are; a response code means trouble with the maildrop itself.
    const isRefusal = error instanceof Pop3Error && error.kind === 'refused' && error.responseCode === undefined;
    if (isRefusal && !isCertain) return undefined;
    throw error;
  }
  return isSorted ? scan : sorted(scan);
}

/** By message number; of a number that came twice the last. */
function sorted<T>({ numbers, values }: Scan<T>): Scan<T> {
  const byNumber = new Map(numbers.map((messageNumber, index) => [messageNumber, values[index] as T]));
  const pairs = [...byNumber].sort(([a], [b]) => a - b);
  return { numbers: pairs.map(([messageNumber]) => messageNumber), values: pairs.map(([, value]) => value) };
}

/** One entry for each number of `base`. All are in the order of numbers. */
function merge(
  base: Scan<unknown> | undefined,
  uniqueIds: Scan<string> | undefined,
  sizes: Scan<number> | undefined,
): ListingEntry[] {
  const sized = sizes?.numbers ?? [];
  let at = 0;
  return (base?.numbers ?? []).map((messageNumber, index) => {
    while ((sized[at] ?? Infinity) < messageNumber) at += 1;
    const size = sized[at] === messageNumber ? sizes?.values[at] : undefined;
    return { messageNumber, uniqueId: uniqueIds?.values[index], size };
  });
}

function malformed(server: string, message: string): Pop3Error {
  return new Pop3Error(`${server}: ${message}`, { kind: 'protocol', server });
}
