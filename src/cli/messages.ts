/** `messages`: the ledger and the quarantine: list, show, retry, discard, deliver. Changes are made under the account's lease. */

import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { openStore } from '../app.ts';
import type { Store } from '../app.ts';
import type { AccountConfig } from '../config/types.ts';
import { Failure } from '../failure.ts';
import { headerFields } from '../mail/header.ts';
import { readEntries } from '../store/ledger.ts';
import { readTrail } from '../store/trail.ts';
import { entryKey, step } from '../sync/entry.ts';
import type { Entry, EntryState } from '../sync/entry.ts';
import { Holds } from '../sync/hold.ts';
import type { Hold } from '../sync/hold.ts';
import { redirected, released } from '../sync/settle.ts';
import { describeTrailEvent } from '../sync/trail.ts';
import type { TrailDecision, TrailEvent } from '../sync/trail.ts';
import { printable } from '../untrusted.ts';
import { chosenAccounts, commandEvents, EXIT, usableConfig, UsageError } from './command.ts';
import type { Command, Context, ExitCode } from './command.ts';
import { fetchMessage } from './on-server.ts';
import { octets, relative, table } from './table.ts';

const VERBS: readonly string[] = ['list', 'show', 'retry', 'discard', 'deliver'];
const STATES: readonly EntryState[] = [
  'open',
  'confirmed',
  'kept',
  'deleting',
  'deleted',
  'quarantined',
  'discarded',
  'skipped',
];
/** How long a change waits for a poll of the same account to end. Milliseconds. */
const PATIENCE = 60_000;

export const messages: Command = {
  name: 'messages',
  usage: 'list|show|retry|discard|deliver ACCOUNT [UNIQUE-ID...]',
  summary: 'the ledger and the quarantine',
  options: {
    all: { type: 'boolean', help: 'list: also what is settled; retry, discard, deliver: every quarantined message' },
    state: { type: 'string', help: `list: only these, of ${STATES.join(', ')}` },
    headers: { type: 'boolean', help: 'show: also the header, fetched from the server' },
    raw: { type: 'boolean', help: 'show: the message itself and nothing else, fetched from the server' },
    to: { type: 'string', help: 'deliver: the destination that gets it, in place of those that do not have it' },
  },
  async run(words, options, context) {
    const [verb = 'list', account, ...uniqueIds] = words;
    const problem = wrongUse(verb, account, uniqueIds, options);
    if (account === undefined || problem !== undefined)
      throw new UsageError(problem ?? `messages ${verb} needs the name of an account`);
    const config = await usableConfig(context);
    const chosen = chosenAccounts(config, [account]).get(account) as AccountConfig;
    const to = options['to'] as string | undefined;
    if (to !== undefined && !config.destinations.has(to))
      throw new UsageError(
        `the config has no destination "${to}"; it has: ${[...config.destinations.keys()].join(', ')}`,
      );
    const store = await openStore(config, commandEvents('error', context));
    try {
      if (verb === 'list') return await list(store, account, options, context);
      if (verb === 'show' && (options['raw'] === true || options['headers'] === true))
        return await showFetched(store, chosen, uniqueIds, options['raw'] === true, config.dataDir, context);
      if (verb === 'show') return await show(store, account, uniqueIds, context);
      return await change(store, account, uniqueIds, changeOf(verb, chosen, to), context);
    } finally {
      await store.close();
    }
  },
};

/** Why the command line is wrong, if it is. */
function wrongUse(
  verb: string,
  account: string | undefined,
  uniqueIds: readonly string[],
  options: Readonly<Record<string, string | boolean | undefined>>,
): string | undefined {
  if (!VERBS.includes(verb)) return `messages has no "${verb}"; it has ${VERBS.join(', ')}`;
  if (account === undefined) return `messages ${verb} needs the name of an account`;
  const state = options['state'];
  if (state !== undefined && !STATES.includes(state as EntryState))
    return `there is no state "${String(state)}"; there are: ${STATES.join(', ')}`;
  if (verb === 'show' && uniqueIds.length === 0) return 'messages show needs a unique-id; "messages list" prints them';
  if (verb === 'show' && options['raw'] === true && uniqueIds.length > 1)
    return 'messages show --raw shows one message';
  const isChange = verb === 'retry' || verb === 'discard' || verb === 'deliver';
  if (isChange && uniqueIds.length === 0 && options['all'] !== true)
    return `messages ${verb} needs unique-ids, or --all for every quarantined message`;
  if (verb === 'deliver' && options['to'] === undefined) return 'messages deliver needs --to and a destination';
  return undefined;
}

/** What a person does to a quarantined message, and how the audit trail says so. */
interface Change {
  readonly apply: (entry: Entry) => Entry;
  readonly event: TrailDecision;
}

function changeOf(verb: string, { deliverTo }: AccountConfig, to: string | undefined): Change {
  if (verb === 'deliver' && to !== undefined) {
    const apply = (entry: Entry): Entry => redirected(entry, deliverTo, to, Date.now());
    return { apply, event: { event: 'redirected', destination: to, by: 'person' } };
  }
  if (verb === 'retry') return { apply: released, event: { event: 'retried', by: 'person' } };
  return { apply: discarded, event: { event: 'discarded', by: 'person' } };
}

async function list(
  store: Store,
  account: string,
  options: Readonly<Record<string, string | boolean | undefined>>,
  context: Context,
): Promise<ExitCode> {
  const { all, state } = options;
  const isWanted = (entry: Entry): boolean =>
    state === undefined ? all === true || needsSomething(entry) : entry.state === state;
  const found = await collect(store, account, isWanted);
  if (context.json) context.print(JSON.stringify(found.map(plain), undefined, 2));
  else {
    const now = Date.now();
    const rows = found.map((entry) => [
      printable(entry.uniqueId, 70),
      entry.state,
      entry.size < 0 ? '-' : octets(entry.size),
      relative(entry.firstSeen, now),
      printable(reasonOf(entry), 120),
    ]);
    context.print(
      found.length === 0 ? 'nothing waits here' : table([['UNIQUE-ID', 'STATE', 'SIZE', 'FIRST SEEN', 'WHY'], ...rows]),
    );
  }
  return found.some((entry) => entry.state === 'quarantined' || entry.state === 'open') ? EXIT.undelivered : EXIT.done;
}

async function show(store: Store, account: string, uniqueIds: readonly string[], context: Context): Promise<ExitCode> {
  const found = await collect(store, account, (entry) => uniqueIds.includes(entry.uniqueId));
  const history = new Map(found.map((entry) => [entry.uniqueId, [] as TrailEvent[]]));
  for await (const { event } of readTrail(store.redis, account)) history.get(event.uniqueId)?.push(event);
  const told = found.map((entry) => ({ ...plain(entry), history: history.get(entry.uniqueId) }));
  if (context.json) context.print(JSON.stringify(told, undefined, 2));
  else
    for (const entry of found) context.print([render(entry), ...renderHistory(history.get(entry.uniqueId))].join('\n'));
  for (const uniqueId of uniqueIds) {
    if (!found.some((entry) => entry.uniqueId === uniqueId))
      context.warn(`the ledger of ${account} has no message ${printable(uniqueId)}`);
  }
  return found.length === 0 ? EXIT.undelivered : EXIT.done;
}

/** The header or the whole message, under the lease: POP3 lets one session in at a time. */
async function showFetched(
  store: Store,
  account: AccountConfig,
  uniqueIds: readonly string[],
  raw: boolean,
  dataDir: string,
  context: Context,
): Promise<ExitCode> {
  const found = await collect(store, account.name, (entry) => uniqueIds.includes(entry.uniqueId));
  const [first] = found;
  if (!first || (raw && found.length > 1)) {
    const what = first ? `${String(found.length)} messages with this unique-id` : 'no such message';
    context.warn(`the ledger of ${account.name} has ${what}`);
    return EXIT.undelivered;
  }
  const holds = new Holds(store.redis);
  const hold = await patiently(holds, account.name, context);
  try {
    for (const entry of found) {
      const message = await fetchMessage(account, entry, dataDir, context.stop);
      try {
        if (raw) await pipeline(message.open(), process.stdout, { end: false });
        else {
          const lines = headerFields(message.header).map(({ name, value }) => `${name}: ${value}`);
          context.print([render(entry), '', ...lines.map((line) => printable(line, 2000))].join('\n'));
        }
      } finally {
        await message.release();
      }
    }
    return EXIT.done;
  } finally {
    await holds.release(hold);
  }
}

/** The hold on an account, once its poll has ended. @throws Failure if that takes too long */
async function patiently(holds: Holds, account: string, context: Context): Promise<Hold> {
  const deadline = performance.now() + PATIENCE;
  let hold = await holds.acquire(account);
  while (!hold && performance.now() < deadline && !context.stop.aborted) {
    await sleep(200);
    hold = await holds.acquire(account);
  }
  if (hold) return hold;
  throw new Failure(`${account} is being polled`, {
    scope: 'account',
    code: 'lease.busy',
    remedy: 'Try again when the poll has ended.',
  });
}

async function change(
  store: Store,
  account: string,
  uniqueIds: readonly string[],
  { apply, event }: Change,
  context: Context,
): Promise<ExitCode> {
  const holds = new Holds(store.redis);
  const hold = await patiently(holds, account, context);
  try {
    const chosen = [...hold.ledger.openEntries()].filter(
      (entry) => entry.state === 'quarantined' && (uniqueIds.length === 0 || uniqueIds.includes(entry.uniqueId)),
    );
    for (const entry of chosen) {
      const after = apply(entry);
      hold.ledger.record({ ...event, uniqueId: entry.uniqueId, at: Date.now() });
      await hold.ledger.put(entry, after);
    }
    const { counts } = hold.ledger.state;
    await hold.ledger.saveState({
      more: true,
      counts: { ...counts, quarantined: Math.max(0, counts.quarantined - chosen.length) },
    });
    context.print(
      context.json
        ? JSON.stringify(chosen.map((entry) => entry.uniqueId))
        : `${chosen.length} changed; the next poll acts on it`,
    );
    for (const uniqueId of uniqueIds) {
      if (!chosen.some((entry) => entry.uniqueId === uniqueId))
        context.warn(`${printable(uniqueId)} is not quarantined`);
    }
    return chosen.length < uniqueIds.length ? EXIT.undelivered : EXIT.done;
  } finally {
    await holds.release(hold);
  }
}

function renderHistory(events: readonly TrailEvent[] = []): string[] {
  if (events.length === 0) return [];
  const lines = events.map(
    (event) => `    ${new Date(event.at).toISOString()}  ${printable(describeTrailEvent(event), 600)}`,
  );
  return ['  history', ...lines];
}

function discarded(entry: Entry): Entry {
  return step(entry, 'discarded');
}

async function collect(store: Store, account: string, wanted: (entry: Entry) => boolean): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of readEntries(store.redis, account)) if (wanted(entry)) found.push(entry);
  return found.sort((a, b) => a.firstSeen - b.firstSeen || (entryKey(a) < entryKey(b) ? -1 : 1));
}

function needsSomething(entry: Entry): boolean {
  return entry.state !== 'kept' && entry.state !== 'skipped' && entry.state !== 'deleted';
}

function reasonOf(entry: Entry): string {
  if (entry.reason !== '') return entry.reason;
  const waiting = Object.entries(entry.deliveries).filter(([, { state }]) => state !== 'confirmed');
  return waiting.map(([name, { state, said }]) => `${name} ${state}: ${said}`).join('; ');
}

function plain(entry: Entry): Record<string, unknown> {
  return { ...entry, firstSeen: new Date(entry.firstSeen).toISOString() };
}

function render(entry: Entry): string {
  const lines = [
    `${printable(entry.uniqueId)}: ${entry.state}`,
    `  size         ${entry.size < 0 ? 'unknown' : `${entry.size} octets`}`,
    `  first seen   ${new Date(entry.firstSeen).toISOString()}`,
    `  fingerprint  ${entry.fingerprint === '' ? '-' : entry.fingerprint}`,
  ];
  if (entry.reason !== '') lines.push(`  reason       ${printable(entry.reason, 500)}`);
  for (const [name, record] of Object.entries(entry.deliveries)) {
    const doubt = record.inDoubt > 0 ? `, in doubt ${record.inDoubt} times` : '';
    const next = record.state === 'deferred' ? `, next attempt ${relative(record.next, Date.now())}` : '';
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
