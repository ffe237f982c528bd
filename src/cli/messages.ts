/** `messages`: the ledger and the quarantine: list, show, retry, discard, deliver. Changes are made under the account's lease. */

import { openStore } from '../app.ts';
import type { Store } from '../app.ts';
import type { AccountConfig, Config } from '../config/types.ts';
import { step } from '../sync/entry.ts';
import type { Entry, EntryState } from '../sync/entry.ts';
import { redirected, released } from '../sync/settle.ts';
import type { TrailDecision } from '../sync/trail.ts';
import { printable } from '../untrusted.ts';
import { chosenAccounts, commandEvents, EXIT, usableConfig, UsageError } from './command.ts';
import type { Command, Context, ExitCode } from './command.ts';
import { whileHeld } from './held.ts';
import { noTwins, withSign } from './messages-choice.ts';
import { listMessages, showMessages } from './messages-show.ts';

type Options = Readonly<Record<string, string | boolean | undefined>>;

/** Which options each verb takes: one that would do nothing may be a mistake that costs a message. */
const OPTIONS_OF: Readonly<Record<string, readonly string[]>> = {
  list: ['all', 'state'],
  show: ['headers', 'raw', 'fingerprint'],
  retry: ['all', 'fingerprint'],
  discard: ['all', 'fingerprint'],
  deliver: ['all', 'fingerprint', 'to'],
};
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

export const messages: Command = {
  name: 'messages',
  usage: 'list [ACCOUNT] | show|retry|discard|deliver ACCOUNT UNIQUE-ID...',
  summary: 'the ledger and the quarantine',
  options: {
    all: { type: 'boolean', help: 'list: also what is settled; retry, discard, deliver: every quarantined message' },
    state: { type: 'string', help: `list: only these, of ${STATES.join(', ')}` },
    headers: { type: 'boolean', help: 'show: also the header, fetched from the server' },
    raw: { type: 'boolean', help: 'show: the message itself and nothing else, fetched from the server' },
    fingerprint: { type: 'string', help: 'which, if messages share a unique-id: how its fingerprint begins' },
    to: { type: 'string', help: 'deliver: the destination that gets it, in place of those that do not have it' },
  },
  async run(words, options, context) {
    const [verb = 'list', account, ...uniqueIds] = words;
    const problem = wrongUse(verb, account, uniqueIds, options);
    if (problem !== undefined) throw new UsageError(problem);
    const config = await usableConfig(context);
    const chosen = chosenAccounts(config, account === undefined ? [] : [account]);
    const to = options['to'] as string | undefined;
    if (to !== undefined && !config.destinations.has(to))
      throw new UsageError(
        `the config has no destination "${to}"; it has: ${[...config.destinations.keys()].join(', ')}`,
      );
    const sign = options['fingerprint'] as string | undefined;
    const store = await openStore(config, commandEvents('error', context));
    try {
      if (verb === 'list') {
        const filter = { all: options['all'] === true, state: options['state'] as EntryState | undefined };
        return await listMessages(store, [...chosen.keys()], filter, context);
      }
      const one = chosen.get(account ?? '') as AccountConfig;
      if (verb === 'show') {
        const fetch = options['raw'] === true ? 'message' : options['headers'] === true ? 'header' : 'nothing';
        return await showMessages(store, config, one, { uniqueIds, sign, fetch }, context);
      }
      return await change(store, config, one, uniqueIds, sign, changeOf(verb, one, to), context);
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
  options: Options,
): string | undefined {
  const given = (name: string): boolean => options[name] !== undefined && options[name] !== false;
  const takes = OPTIONS_OF[verb];
  if (!takes) return `messages has no "${verb}"; it has ${Object.keys(OPTIONS_OF).join(', ')}`;
  const odd = Object.keys(messages.options).find((name) => given(name) && !takes.includes(name));
  if (odd !== undefined) return `messages ${verb} takes no --${odd}`;
  const state = options['state'];
  if (state !== undefined && !STATES.includes(state as EntryState))
    return `there is no state "${String(state)}"; there are: ${STATES.join(', ')}`;
  if (verb === 'list')
    return uniqueIds.length > 0 ? 'messages list takes one account; "messages show" takes unique-ids' : undefined;
  if (account === undefined) return `messages ${verb} needs the name of an account`;
  if (given('fingerprint') && uniqueIds.length !== 1) return '--fingerprint goes with one unique-id';
  if (verb === 'show') {
    if (uniqueIds.length === 0) return 'messages show needs a unique-id; "messages list" prints them';
    return given('raw') && uniqueIds.length > 1 ? 'messages show --raw shows one message' : undefined;
  }
  if (uniqueIds.length === 0 && !given('all'))
    return `messages ${verb} needs unique-ids, or --all for every quarantined message`;
  if (uniqueIds.length > 0 && given('all')) return 'either unique-ids or --all';
  if (verb === 'deliver' && !given('to')) return 'messages deliver needs --to and a destination';
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
  return { apply: (entry) => step(entry, 'discarded'), event: { event: 'discarded', by: 'person' } };
}

async function change(
  store: Store,
  config: Config,
  { name }: AccountConfig,
  uniqueIds: readonly string[],
  sign: string | undefined,
  { apply, event }: Change,
  context: Context,
): Promise<ExitCode> {
  return await whileHeld(store, config, name, context, async ({ ledger }) => {
    const isMeant = ({ state, uniqueId }: Entry): boolean =>
      state === 'quarantined' && (uniqueIds.length === 0 || uniqueIds.includes(uniqueId));
    const chosen = withSign([...ledger.openEntries()].filter(isMeant), sign);
    // A second attempt does no harm to the wrong one; the rest might.
    if (uniqueIds.length > 0 && event.event !== 'retried') noTwins(chosen);
    if (chosen.length === 0 && uniqueIds.length === 0) {
      context.print(context.json ? '[]' : `${name} has nothing in quarantine: nothing changed`);
      return EXIT.done;
    }
    const there = event.event === 'redirected' ? event.destination : '';
    const had = chosen.filter(({ deliveries }) => deliveries[there]?.state === 'confirmed').length;
    if (had > 0)
      context.warn(`${String(had)} of them ${there} has already: they are not sent there again, only let go`);
    const writes = chosen.map(async (entry) => {
      ledger.record({ ...event, uniqueId: entry.uniqueId, at: Date.now() });
      await ledger.put(entry, apply(entry));
    });
    await Promise.all(writes);
    const { counts } = ledger.state;
    await ledger.saveState({
      more: true,
      counts: { ...counts, quarantined: Math.max(0, counts.quarantined - chosen.length) },
    });
    context.print(
      context.json
        ? JSON.stringify(chosen.map((entry) => entry.uniqueId))
        : `${chosen.length} changed; the next poll acts on it`,
    );
    const missing = uniqueIds.filter((uniqueId) => !chosen.some((entry) => entry.uniqueId === uniqueId));
    for (const uniqueId of missing) {
      const state = ledger.group(uniqueId).map((entry) => entry.state);
      const why = state.length === 0 ? `${name} has no such message that waits` : `it is ${state.join(', ')}`;
      context.warn(`${printable(uniqueId)} is not quarantined: ${why}`);
    }
    return missing.length > 0 ? EXIT.undelivered : EXIT.done;
  });
}
