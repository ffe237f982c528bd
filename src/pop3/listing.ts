/** UIDL and LIST as one listing (RFC 1939 §5, §7). Where they disagree, mail came in between: such messages are for the next session. */

import type { Capabilities } from './capabilities.ts';
import type { Engine } from './engine.ts';
import { Pop3Error } from './error.ts';
import { parseNumbered } from './reply.ts';

/** Messages of one maildrop. */
const LISTING_LIMIT = 2_000_000;
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
  /** In the order of message numbers. */
  readonly entries: readonly ListingEntry[];
  readonly hasUniqueIds: boolean;
}

/** Asks for both, in one go where the server allows it. @throws Pop3Error */
export async function readListing(engine: Engine, capabilities: Capabilities, server: string): Promise<Listing> {
  const uniqueIds = new Map<number, string>();
  const sizes = new Map<number, number>();
  const asked = capabilities.uidl
    ? ask(engine, 'UIDL', (line) => {
        const parsed = parseNumbered(line);
        if (!parsed || parsed.rest === '' || parsed.rest.length > UNIQUE_ID_LIMIT) throw malformed(server, 'UIDL');
        uniqueIds.set(parsed.messageNumber, parsed.rest);
      })
    : Promise.resolve(false);
  const [hasUniqueIds] = await Promise.all([
    asked,
    ask(engine, 'LIST', (line) => {
      const parsed = parseNumbered(line);
      const size = Number(/^\d{1,15}/.exec(parsed?.rest ?? '')?.[0] ?? Number.NaN);
      if (!parsed || Number.isNaN(size)) throw malformed(server, 'LIST');
      sizes.set(parsed.messageNumber, size);
    }),
  ]);
  const numbers = hasUniqueIds ? uniqueIds.keys() : sizes.keys();
  const entries = Array.from(numbers, (messageNumber) => ({
    messageNumber,
    uniqueId: uniqueIds.get(messageNumber),
    size: sizes.get(messageNumber),
  }));
  return { entries: entries.sort((a, b) => a.messageNumber - b.messageNumber), hasUniqueIds };
}

/** @returns false if the server refuses the command */
async function ask(engine: Engine, command: 'UIDL' | 'LIST', take: (line: Buffer) => void): Promise<boolean> {
  try {
    await engine.send({ line: command, shown: command, body: { kind: 'lines', take, limit: LISTING_LIMIT } });
    return true;
  } catch (error) {
    // Without LIST sizes are unknown, without UIDL unique-ids are; a response code means trouble with the maildrop itself.
    if (error instanceof Pop3Error && error.kind === 'refused' && error.responseCode === undefined) return false;
    throw error;
  }
}

function malformed(server: string, command: string): Pop3Error {
  return new Pop3Error(`${server}: a line of ${command} cannot be read`, { kind: 'protocol', server });
}
