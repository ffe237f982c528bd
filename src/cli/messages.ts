/** `messages`: the ledger and the quarantine: list, show, retry, discard. Changes are made under the account's lease. */

import { setTimeout as sleep } from 'node:timers/promises';
import { openStore } from '../app.ts';
import type { Store } from '../app.ts';
import { readEntries } from '../store/ledger.ts';
import { entryKey, step } from '../sync/entry.ts';
import type { Entry } from '../sync/entry.ts';
import { Holds } from '../sync/hold.ts';
import { released } from '../sync/settle.ts';
import { Failure } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { chosenAccounts, commandEvents, EXIT, usableConfig, UsageError } from './command.ts';
import type { Command, Context, ExitCode } from './command.ts';
import { octets, relative, table } from './table.ts';

/** How long a change waits for a poll of the same account to end. Milliseconds. */
const PATIENCE = 60_000;

export const messages: Command = {
  name: 'messages',
  usage: 'list|show|retry|discard ACCOUNT [UNIQUE-ID...]',
  summary: 'the ledger and the quarantine',
  options: {
    all: { type: 'boolean', help: 'list: also what is settled; retry, discard: every quarantined message' },
  },
  async run(words, options, context) {
    const [verb = 'list', account, ...uniqueIds] = words;
    if (!['list', 'show', 'retry', 'discard'].includes(verb))
      throw new UsageError(`messages has no "${verb}"; it has list, show, retry and discard`);
    if (account === undefined) throw new UsageError(`messages ${verb} needs the name of an account`);
    if (verb === 'show' && uniqueIds.length === 0)
      throw new UsageError('messages show needs a unique-id; "messages list" prints them');
    if ((verb === 'retry' || verb === 'discard') && uniqueIds.length === 0 && options['all'] !== true) {
      throw new UsageError(`messages ${verb} needs unique-ids, or --all for every quarantined message`);
    }
    const config = await usableConfig(context);
    chosenAccounts(config, [account]);
    const store = await openStore(config, commandEvents('error', context));
    try {
      if (verb === 'list') return await list(store, account, options['all'] === true, context);
      if (verb === 'show') return await show(store, account, uniqueIds, context);
      return await change(store, account, uniqueIds, verb === 'retry' ? released : discarded, context);
    } finally {
      await store.close();
    }
  },
};

async function list(store: Store, account: string, all: boolean, context: Context): Promise<ExitCode> {
  const found = await collect(store, account, (entry) => all || needsSomething(entry));
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
  if (context.json) context.print(JSON.stringify(found.map(plain), undefined, 2));
  else for (const entry of found) context.print(render(entry));
  for (const uniqueId of uniqueIds) {
    if (!found.some((entry) => entry.uniqueId === uniqueId))
      context.warn(`the ledger of ${account} has no message ${printable(uniqueId)}`);
  }
  return found.length === 0 ? EXIT.undelivered : EXIT.done;
}

async function change(
  store: Store,
  account: string,
  uniqueIds: readonly string[],
  apply: (entry: Entry) => Entry,
  context: Context,
): Promise<ExitCode> {
  const holds = new Holds(store.redis);
  const deadline = performance.now() + PATIENCE;
  let hold = await holds.acquire(account);
  while (!hold && performance.now() < deadline && !context.stop.aborted) {
    await sleep(200);
    hold = await holds.acquire(account);
  }
  if (!hold) {
    throw new Failure(`${account} is being polled`, {
      scope: 'account',
      code: 'lease.busy',
      remedy: 'Try again when the poll has ended.',
    });
  }
  try {
    const chosen = [...hold.ledger.openEntries()].filter(
      (entry) => entry.state === 'quarantined' && (uniqueIds.length === 0 || uniqueIds.includes(entry.uniqueId)),
    );
    for (const entry of chosen) {
      const after = apply(entry);
      hold.ledger.record({
        event: after.state === 'open' ? 'retried' : 'discarded',
        uniqueId: entry.uniqueId,
        at: Date.now(),
      });
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
