/** A message of the ledger as it lies on its server, fetched for a person who wants to see it. Nothing is changed there. */

import { openSession } from '../app.ts';
import type { AccountConfig } from '../config/types.ts';
import { Failure } from '../failure.ts';
import { fingerprintOf } from '../mail/fingerprint.ts';
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
  const session = await openSession(account, stop);
  try {
    const { rows } = await survey(session, Date.now());
    const spool = await Spool.open(dataDir);
    for (const row of rows.filter(({ uniqueId }) => uniqueId === entry.uniqueId)) {
      const message = await retrieve(session, row, spool);
      if (isIt(entry, message)) return message;
      await message.release();
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
