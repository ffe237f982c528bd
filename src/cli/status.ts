/** `status`: how every account stands, and what needs a person. */

import { openStore } from '../app.ts';
import { differingWorkers, runningWorkers } from '../queue/workers.ts';
import type { WorkerSign } from '../queue/workers.ts';
import { polledAccounts } from '../store/markers.ts';
import { collectForgotten, collectStatus } from '../ops/status.ts';
import type { AccountStatus } from '../ops/status.ts';
import { readBreakers } from '../store/breakers.ts';
import { readStates } from '../store/ledger.ts';
import type { Breaker } from '../sync/retry.ts';
import { printable } from '../untrusted.ts';
import { chosenAccounts, commandEvents, EXIT, usableConfig } from './command.ts';
import type { Command } from './command.ts';
import { relative, table } from './table.ts';

export const status: Command = {
  name: 'status',
  usage: '[ACCOUNT...]',
  summary: 'accounts: last and next poll, backlog, deferred, quarantined, what needs a person',
  options: {},
  async run(words, _options, context) {
    const config = await usableConfig(context);
    const accounts = [...chosenAccounts(config, words).values()];
    const store = await openStore(config, commandEvents('error', context));
    try {
      const found = await collectStatus(store.redis, accounts, readStates);
      const names = words.length > 0 ? [] : await polledAccounts(store.redis);
      const gone = names.filter((name) => !config.accounts.has(name));
      const all = [...found, ...(await collectForgotten(store.redis, gone, readStates))];
      const { workers, now } = await runningWorkers(store.redis);
      for (const line of aboutWorkers(workers, now)) context.warn(line);
      const breakers = await readBreakers(store.redis, [...config.destinations.keys()]);
      for (const [name, breaker] of breakers)
        for (const line of aboutDestination(name, breaker, now)) context.warn(line);
      if (context.json) context.print(JSON.stringify(all, undefined, 2));
      else context.print(render(all, Date.now()));
      return found.some(({ deferred, quarantined, state }) => deferred + quarantined > 0 || state === 'needs a person')
        ? EXIT.undelivered
        : EXIT.done;
    } finally {
      await store.close();
    }
  },
};

/** What a person should know of the workers: to standard error, where problems of the config are told. */
function aboutWorkers(workers: readonly WorkerSign[], now: number): string[] {
  const refusals = workers
    .filter(({ problem }) => problem !== '')
    .map(({ host, pid, problem, problemSince }) => {
      const who = `the worker on ${printable(host, 100)} (process ${String(pid)})`;
      return `${who} refused the config ${relative(problemSince, now)}: ${printable(problem, 500)}`;
    });
  const differing = differingWorkers(workers, now);
  if (differing.length === 0) return refusals;
  return [...refusals, 'workers run with different configs:', ...differing.map((line) => `  ${line}`)];
}

/** What a person should know of a destination that gets nothing for now. */
function aboutDestination(
  name: string,
  { openUntil, failures, said, gone, needsPerson }: Breaker,
  now: number,
): string[] {
  if (openUntil === 0) return [];
  const why = said === undefined || said === '' ? '' : `: ${printable(said, 500)}`;
  const until = openUntil > now ? `; tried again ${relative(openUntil, now)}` : '; the next message tries it';
  const what = gone === true ? 'wants nothing any more' : `is paused after ${String(failures)} failures in a row`;
  const remedy =
    needsPerson === true || gone === true
      ? '\n  It will not go away by itself: correct the config, or what it names.'
      : '';
  return [`destination ${name} ${what}${why}${until}${remedy}`];
}

function render(found: readonly AccountStatus[], now: number): string {
  const rows = found.map((each) => [
    each.account,
    each.state,
    relative(each.lastPoll, now),
    relative(each.lastSuccess, now),
    each.onServer < 0 ? '-' : String(each.onServer),
    `${each.deferred}`,
    `${each.quarantined}`,
    `${each.delivered}`,
    `${each.inDoubt}`,
  ]);
  const heading = [
    'ACCOUNT',
    'STATE',
    'LAST POLL',
    'LAST GOOD',
    'ON SERVER',
    'DEFERRED',
    'QUARANTINED',
    'DELIVERED',
    'IN DOUBT',
  ];
  const lines = [table([heading, ...rows])];
  for (const each of found) {
    if (each.problem === '') continue;
    lines.push('', `${each.account}: ${printable(each.problem, 500)}`);
    if (each.remedy !== '') lines.push(`  ${printable(each.remedy, 500)}`);
    if (each.next > now) lines.push(`  tried again ${relative(each.next, now)}`);
  }
  return lines.join('\n');
}
