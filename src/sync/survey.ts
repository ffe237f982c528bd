/** What lies in the maildrop: a cheap look that may show that nothing has changed, or the whole listing. */

import type { Pop3Client } from '../pop3/client.ts';
import { fingerprintOf } from '../mail/fingerprint.ts';
import { HEADER_LIMIT } from '../mail/header.ts';
import type { AccountState } from './account.ts';
import type { Evidence, Row } from './identity.ts';

/** So many new messages are asked for one by one. */
const TAIL = 500;
/** Where each question is waited for, a whole listing takes two. */
const TAIL_ONE_BY_ONE = 2;
/** A full listing runs at least this often. Milliseconds. */
const FULL_LISTING = 60 * 60 * 1000;

export interface Survey {
  readonly rows: readonly Row[];
  /** Messages that lie before these, all known, none with anything to do. */
  readonly before: number;
  readonly evidence: Map<number, Evidence>;
  /** As kept in the account's state. */
  readonly listing: AccountState['listing'];
}

/** What a look at the end of the maildrop shows. */
export type Glance =
  /** Nothing is new. */
  | { readonly kind: 'unchanged' }
  /** New messages lie behind those of the last listing; nothing else has changed. */
  | { readonly kind: 'grown'; readonly survey: Survey }
  /** Only a whole listing can tell. */
  | { readonly kind: 'unclear' };

const UNCLEAR: Glance = { kind: 'unclear' };

/** Asks for STAT and the last unique-id of the last complete listing, then for what lies behind it: in proportion to the new. */
export async function glance(session: Pop3Client, { listing }: AccountState, now: number): Promise<Glance> {
  if (!listing.complete || now - listing.at >= FULL_LISTING || !session.capabilities.uidl) return UNCLEAR;
  if (listing.count === 0) return (await session.stat()).count === 0 ? { kind: 'unchanged' } : UNCLEAR;
  const [stat, last] = await Promise.all([session.stat(), session.uniqueId(listing.count)]);
  if (last !== listing.lastUniqueId || last === '') return UNCLEAR;
  if (stat.count === listing.count) return stat.octets === listing.octets ? { kind: 'unchanged' } : UNCLEAR;
  const most = session.capabilities.pipelining ? TAIL : TAIL_ONE_BY_ONE;
  if (stat.count < listing.count || stat.count > listing.count + most) return UNCLEAR;
  const tail = await Promise.all(
    Array.from({ length: stat.count - listing.count }, async (_, index): Promise<Row | undefined> => {
      const messageNumber = listing.count + 1 + index;
      const [uniqueId, size] = await Promise.all([session.uniqueId(messageNumber), session.list(messageNumber)]);
      return uniqueId === undefined || size === undefined ? undefined : { messageNumber, uniqueId, size };
    }),
  );
  const rows = tail.filter((row) => row !== undefined);
  const octets = rows.reduce((sum, { size }) => sum + size, listing.octets);
  const isPlain = new Set([last, ...rows.map(({ uniqueId }) => uniqueId)]).size === rows.length + 1;
  // The sum shows that what lies before them is what lay there.
  if (rows.length < tail.length || octets !== stat.octets || !isPlain) return UNCLEAR;
  const after = { ...listing, count: stat.count, octets, lastUniqueId: rows.at(-1)?.uniqueId ?? '' };
  return { kind: 'grown', survey: { rows, before: listing.count, evidence: new Map(), listing: after } };
}

/** Lists the whole maildrop. Where the server has no unique-ids, fingerprints stand in for them. */
export async function survey(session: Pop3Client, now: number): Promise<Survey> {
  const [stat, { entries }] = await Promise.all([session.stat(), session.listing()]);
  const evidence = new Map<number, Evidence>();
  const rows: Row[] = [];
  const nameless: { messageNumber: number; size: number }[] = [];
  for (const { messageNumber, uniqueId, size } of entries) {
    if (uniqueId === undefined) nameless.push({ messageNumber, size: size ?? -1 });
    else {
      rows.push({ messageNumber, uniqueId, size: size ?? -1 });
    }
  }
  await Promise.all(
    nameless.map(async ({ messageNumber, size }) => {
      const fingerprint = await identify(session, messageNumber);
      evidence.set(messageNumber, { fingerprint });
      rows.push({ messageNumber, uniqueId: `fingerprint:${fingerprint}`, size });
    }),
  );
  if (nameless.length > 0) rows.sort((a, b) => a.messageNumber - b.messageNumber);
  const listing = {
    complete: true,
    count: rows.length,
    octets: stat.octets,
    lastUniqueId: rows.at(-1)?.messageNumber === rows.length ? (rows.at(-1)?.uniqueId ?? '') : '',
    at: now,
  };
  return { rows, before: 0, evidence, listing };
}

/** The fingerprint of a message that was not retrieved: by TOP, or by the message itself where there is no TOP. */
export async function identify(session: Pop3Client, messageNumber: number): Promise<string> {
  if (session.capabilities.top) return fingerprintOf(await session.top(messageNumber, 0, HEADER_LIMIT));
  const chunks: Buffer[] = [];
  let kept = 0;
  await session.retrieve(messageNumber, {
    write(chunk) {
      if (kept < HEADER_LIMIT) chunks.push(chunk);
      kept += chunk.length;
    },
  });
  const octets = Buffer.concat(chunks);
  const end = octets.indexOf('\r\n\r\n');
  return fingerprintOf(octets.subarray(0, Math.min(end < 0 ? octets.length : end + 4, HEADER_LIMIT)));
}
