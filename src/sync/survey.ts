/** What lies in the maildrop: a cheap look that may show that nothing has changed, or the whole listing. */

import { createHash } from 'node:crypto';
import type { Pop3Client } from '../pop3/client.ts';
import { fingerprintOf } from '../mail/fingerprint.ts';
import { HEADER_LIMIT } from '../mail/header.ts';
import type { AccountState } from './account.ts';
import type { Evidence, Row } from './identity.ts';

/** A full listing runs at least this often. Milliseconds. */
const FULL_LISTING = 60 * 60 * 1000;

export interface Survey {
  readonly rows: readonly Row[];
  readonly evidence: Map<number, Evidence>;
  /** As kept in the account's state. */
  readonly listing: AccountState['listing'];
  /** True if the listing equals the last one. */
  readonly unchanged: boolean;
}

/**
 * Asks for STAT and the last unique-id alone.
 * @returns true if they show that nothing is new since the last complete listing
 */
export async function looksUnchanged(session: Pop3Client, { listing }: AccountState, now: number): Promise<boolean> {
  if (listing.digest === '' || now - listing.at >= FULL_LISTING || !session.capabilities.uidl) return false;
  if (listing.count === 0) return (await session.stat()).count === 0;
  const [stat, last] = await Promise.all([session.stat(), session.uniqueId(listing.count)]);
  return stat.count === listing.count && stat.octets === listing.octets && last === listing.lastUniqueId;
}

/** Lists the whole maildrop. Where the server has no unique-ids, fingerprints stand in for them. */
export async function survey(session: Pop3Client, state: AccountState, now: number): Promise<Survey> {
  const [stat, { entries }] = await Promise.all([session.stat(), session.listing()]);
  const evidence = new Map<number, Evidence>();
  const rows: Row[] = [];
  const nameless: { messageNumber: number; size: number }[] = [];
  const hash = createHash('sha1');
  for (const { messageNumber, uniqueId, size } of entries) {
    if (uniqueId === undefined) nameless.push({ messageNumber, size: size ?? -1 });
    else {
      rows.push({ messageNumber, uniqueId, size: size ?? -1 });
      hash.update(`${uniqueId} ${size ?? -1}\n`);
    }
  }
  await Promise.all(
    nameless.map(async ({ messageNumber, size }) => {
      const fingerprint = await identify(session, messageNumber);
      evidence.set(messageNumber, { fingerprint });
      rows.push({ messageNumber, uniqueId: `fingerprint:${fingerprint}`, size });
      hash.update(`${fingerprint}\n`);
    }),
  );
  if (nameless.length > 0) rows.sort((a, b) => a.messageNumber - b.messageNumber);
  const digest = hash.digest('base64url');
  const listing = {
    digest,
    count: rows.length,
    octets: stat.octets,
    lastUniqueId: rows.at(-1)?.messageNumber === rows.length ? (rows.at(-1)?.uniqueId ?? '') : '',
    at: now,
  };
  return { rows, evidence, listing, unchanged: digest === state.listing.digest && nameless.length === 0 };
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
