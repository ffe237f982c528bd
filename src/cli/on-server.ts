/** A message of the ledger as it lies on its server, fetched for a person who wants to see it. Nothing is changed there. */

import { openSession } from '../app.ts';
import type { AccountConfig } from '../config/types.ts';
import { Failure } from '../failure.ts';
import { fingerprintOf } from '../mail/fingerprint.ts';
import { HEADER_LIMIT } from '../mail/header.ts';
import type { StoredMessage } from '../mail/message.ts';
import type { Pop3Client } from '../pop3/client.ts';
import { Spool } from '../store/spool.ts';
import type { Entry } from '../sync/entry.ts';
import type { Row } from '../sync/identity.ts';
import { survey } from '../sync/survey.ts';
import { shortSha } from '../sync/transfer.ts';

/**
 * Fetches the message that this entry stands for; the caller releases it.
 * @throws Failure if the server is out of reach, or the message is not there any more
 */
export async function fetchMessage(
  account: AccountConfig,
  entry: Entry,
  dataDir: string,
  stop: AbortSignal,
): Promise<StoredMessage> {
  const spool = await Spool.open(dataDir);
  return await find(account, entry, stop, async (session, row) => {
    const message = await retrieve(session, row, spool);
    if (isIt(entry, message)) return message;
    await message.release();
    return undefined;
  });
}

/**
 * The header of that message, by TOP where there is one, so that nothing more is fetched.
 * @throws Failure as `fetchMessage`
 */
export async function fetchHeader(
  account: AccountConfig,
  entry: Entry,
  dataDir: string,
  stop: AbortSignal,
): Promise<Buffer> {
  const spool = await Spool.open(dataDir);
  return await find(account, entry, stop, async (session, row) => {
    const header = session.capabilities.top ? await session.top(row.messageNumber, 0, HEADER_LIMIT) : undefined;
    // Some servers make up another header for TOP: only the message itself tells, then.
    if (header !== undefined && entry.fingerprint === fingerprintOf(header)) return header;
    const message = await retrieve(session, row, spool);
    await message.release();
    return isIt(entry, message) ? message.header : undefined;
  });
}

/** What `look` makes of the message that it recognises, of those with the entry's unique-id. @throws Failure if of none */
async function find<T>(
  account: AccountConfig,
  entry: Entry,
  stop: AbortSignal,
  look: (session: Pop3Client, row: Row) => Promise<T | undefined>,
): Promise<T> {
  const session = await openSession(account, stop);
  try {
    const { rows } = await survey(session, Date.now());
    for (const row of rows.filter(({ uniqueId }) => uniqueId === entry.uniqueId)) {
      const found = await look(session, row);
      if (found !== undefined) return found;
    }
  } finally {
    // However it ends, nothing was marked.
    await session.quit().catch(() => session.abort());
  }
  throw new Failure('The message is not on its server', {
    scope: 'message',
    code: 'message.gone',
    remedy:
      'Somebody else has deleted it, or the server changed its unique-ids; "messages show" has what the ledger knows.',
  });
}

async function retrieve(session: Pop3Client, { messageNumber }: Row, spool: Spool): Promise<StoredMessage> {
  const receiver = spool.receive();
  try {
    await session.retrieve(messageNumber, receiver);
    return await receiver.finish();
  } catch (error) {
    await receiver.discard();
    throw error;
  }
}

/** Different messages may share a unique-id. */
function isIt(entry: Entry, message: StoredMessage): boolean {
  if (entry.fingerprint !== '' && fingerprintOf(message.header) !== entry.fingerprint) return false;
  return entry.sha === '' || shortSha(message.bodySha256) === entry.sha;
}
