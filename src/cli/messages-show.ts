/** `messages list` and `messages show`: looking, which changes nothing in the ledger nor on the server. */

import { pipeline } from 'node:stream/promises';
import type { Store } from '../app.ts';
import type { AccountConfig, Config } from '../config/types.ts';
import { headerFields } from '../mail/header.ts';
import { readTrail } from '../store/trail.ts';
import type { Entry, EntryState } from '../sync/entry.ts';
import { describeTrailEvent } from '../sync/trail.ts';
import type { TrailEvent } from '../sync/trail.ts';
import { printable } from '../untrusted.ts';
import { EXIT } from './command.ts';
import type { Context, ExitCode } from './command.ts';
import { whileHeld } from './held.ts';
import { collect, noTwins, signOf, withSign } from './messages-choice.ts';
import { fetchHeader, fetchMessage } from './on-server.ts';
import { octets, relative, table } from './table.ts';

/** Which messages to list. */
export interface ListFilter {
  /** Also what is settled. */
  readonly all: boolean;
  readonly state: EntryState | undefined;
}

/** Prints a table of the messages of these accounts. */
export async function listMessages(
  store: Store,
  accounts: readonly string[],
  { all, state }: ListFilter,
  context: Context,
): Promise<ExitCode> {
  const isWanted = (entry: Entry): boolean =>
    state === undefined ? all || needsSomething(entry) : entry.state === state;
  const found: { account: string; entry: Entry }[] = [];
  for (const account of accounts)
    for (const entry of await collect(store, account, isWanted)) found.push({ account, entry });
  if (context.json)
    context.print(
      JSON.stringify(
        found.map(({ account, entry }) => plain(account, entry)),
        undefined,
        2,
      ),
    );
  else if (found.length === 0) context.print('nothing waits here');
  else {
    const now = Date.now();
    const rows = found.map(({ account, entry }) => [
      printable(entry.uniqueId, 70),
      account,
      entry.state,
      entry.size < 0 ? '-' : octets(entry.size),
      relative(entry.firstSeen, now),
      printable(reasonOf(entry), 120),
    ]);
    context.print(table([['UNIQUE-ID', 'ACCOUNT', 'STATE', 'SIZE', 'FIRST SEEN', 'WHY'], ...rows]));
  }
  const isWaiting = found.some(({ entry }) => entry.state === 'quarantined' || entry.state === 'open');
  return isWaiting ? EXIT.undelivered : EXIT.done;
}

/** What to show of which messages. */
export interface ShowRequest {
  readonly uniqueIds: readonly string[];
  /** Narrows messages of one unique-id down. */
  readonly sign: string | undefined;
  /** Also the header, or the message and nothing else: both are fetched from the server. */
  readonly fetch: 'nothing' | 'header' | 'message';
}

/** Prints what is known of these messages. */
export async function showMessages(
  store: Store,
  config: Config,
  account: AccountConfig,
  { uniqueIds, sign, fetch }: ShowRequest,
  context: Context,
): Promise<ExitCode> {
  const found = withSign(await collect(store, account.name, (entry) => uniqueIds.includes(entry.uniqueId)), sign);
  for (const uniqueId of uniqueIds) {
    if (!found.some((entry) => entry.uniqueId === uniqueId))
      context.warn(`the ledger of ${account.name} has no message ${printable(uniqueId)}`);
  }
  if (found.length === 0) return EXIT.undelivered;
  const code = found.length < uniqueIds.length ? EXIT.undelivered : EXIT.done;
  if (fetch === 'message') {
    noTwins(found);
    await writeMessage(store, config, account, found, context);
    return code;
  }
  const headers = fetch === 'header' ? await fetchHeaders(store, config, account, found, context) : undefined;
  const history = new Map(found.map((entry) => [entry.uniqueId, [] as TrailEvent[]]));
  for await (const { event } of readTrail(store.redis, account.name)) history.get(event.uniqueId)?.push(event);
  if (context.json) {
    const told = found.map((entry) => ({
      ...plain(account.name, entry),
      history: history.get(entry.uniqueId),
      ...(headers === undefined ? {} : { header: headers.get(entry) }),
    }));
    context.print(JSON.stringify(told, undefined, 2));
  } else
    for (const entry of found) {
      const fields = headers?.get(entry)?.map(({ name, value }) => printable(`${name}: ${value}`, 2000)) ?? [];
      const lines = [render(entry), ...renderHistory(history.get(entry.uniqueId))];
      context.print([...lines, ...(fields.length > 0 ? ['', ...fields, ''] : [])].join('\n'));
    }
  return code;
}

/** The message to standard output, octet for octet. */
async function writeMessage(
  store: Store,
  config: Config,
  account: AccountConfig,
  [entry]: readonly Entry[],
  context: Context,
): Promise<void> {
  if (!entry) return;
  await whileHeld(store, config, account.name, context, async () => {
    const message = await fetchMessage(account, entry, config.dataDir, context.stop);
    try {
      await pipeline(message.open(), process.stdout, { end: false });
    } catch (error) {
      // Whoever reads it has seen enough.
      if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
    } finally {
      await message.release();
    }
  });
}

type HeaderFields = ReturnType<typeof headerFields>;

async function fetchHeaders(
  store: Store,
  config: Config,
  account: AccountConfig,
  entries: readonly Entry[],
  context: Context,
): Promise<ReadonlyMap<Entry, HeaderFields>> {
  return await whileHeld(store, config, account.name, context, async () => {
    const headers = new Map<Entry, HeaderFields>();
    for (const entry of entries) {
      headers.set(entry, headerFields(await fetchHeader(account, entry, config.dataDir, context.stop)));
    }
    return headers;
  });
}

function needsSomething({ state }: Entry): boolean {
  return state !== 'kept' && state !== 'skipped' && state !== 'deleted';
}

function reasonOf(entry: Entry): string {
  if (entry.reason !== '') return entry.reason;
  const waiting = Object.entries(entry.deliveries).filter(
    ([, { state }]) => state !== 'confirmed' && state !== 'waived',
  );
  return waiting.map(([name, { state, said }]) => `${name} ${state}${said === '' ? '' : `: ${said}`}`).join('; ');
}

function plain(account: string, entry: Entry): Record<string, unknown> {
  return { account, ...entry, firstSeen: new Date(entry.firstSeen).toISOString() };
}

function render(entry: Entry): string {
  const lines = [
    `${printable(entry.uniqueId)}: ${entry.state}`,
    `  size         ${entry.size < 0 ? 'unknown' : `${entry.size} octets`}`,
    `  first seen   ${new Date(entry.firstSeen).toISOString()}`,
    `  fingerprint  ${signOf(entry)}`,
  ];
  if (entry.reason !== '') lines.push(`  reason       ${printable(entry.reason, 500)}`);
  for (const [name, record] of Object.entries(entry.deliveries)) {
    const doubt = record.inDoubt > 0 ? `, in doubt ${record.inDoubt} times` : '';
    const next = record.state === 'deferred' ? `, next attempt ${nextAttempt(record.next)}` : '';
    lines.push(
      `  ${name}: ${record.state} at ${new Date(record.at).toISOString()}, attempt ${record.attempt}${doubt}${next}`,
    );
    if (record.said !== '') lines.push(`    said: ${printable(record.said, 500)}`);
    for (const [address, recipient] of Object.entries(record.recipients)) {
      lines.push(`    ${printable(address)}: ${recipient.kind}: ${printable(recipient.said)}`);
    }
  }
  return lines.join('\n');
}

function nextAttempt(at: number): string {
  const now = Date.now();
  return at <= now ? 'at the next poll' : relative(at, now);
}

function renderHistory(events: readonly TrailEvent[] = []): string[] {
  if (events.length === 0) return [];
  const lines = events.map(
    (event) => `    ${new Date(event.at).toISOString()}  ${printable(describeTrailEvent(event), 600)}`,
  );
  return ['  history', ...lines];
}
