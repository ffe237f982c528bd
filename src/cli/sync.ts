/** `sync`: polls until every account is drained, and exits. `--dry-run` prints the plan and changes nothing. */

import { openEngine } from '../app.ts';
import type { Engine } from '../app.ts';
import type { AccountConfig } from '../config/types.ts';
import type { PollSummary } from '../ops/events.ts';
import { settleDown } from '../ops/footprint.ts';
import { poll } from '../sync/poll.ts';
import type { PollOptions, PollReport } from '../sync/poll.ts';
import type { Plan } from '../sync/plan.ts';
import { printable } from '../untrusted.ts';
import { chosenAccounts, commandEvents, EXIT, usableConfig } from './command.ts';
import type { Command, ExitCode } from './command.ts';
import { Progress } from './progress.ts';
import { octets, relative } from './table.ts';

/** How long to wait for another poll of the same account, and between two looks. Milliseconds. */
const BUSY_LIMIT = 120_000;
const BUSY_WAIT = 250;
/** After this it says what it waits for. Milliseconds. */
const BUSY_TOLD = 2000;

interface Result {
  readonly account: string;
  readonly outcome: 'drained' | 'waiting' | 'failed' | 'busy' | 'planned';
  readonly delivered: number;
  readonly deleted: number;
  readonly octets: number;
  /** All that wait for a person, also from before. */
  readonly quarantined: number;
  readonly reason: string;
  readonly remedy: string;
  readonly plan?: ReturnType<typeof planned>;
}

export const sync: Command = {
  name: 'sync',
  usage: '[ACCOUNT...]',
  summary: 'polls until drained, and exits',
  options: { 'dry-run': { type: 'boolean', help: 'print the plan only' } },
  async run(words, options, context) {
    const config = await usableConfig(context);
    const accounts = [...chosenAccounts(config, words).values()];
    const progress = new Progress(context.isTerminal && !context.json, accounts.length);
    const engine = await openEngine(
      config,
      commandEvents(context.isTerminal ? 'error' : config.log.level === 'debug' ? 'debug' : 'warn', context),
    );
    const onStop = (): void => engine.stop();
    context.stop.addEventListener('abort', onStop, { once: true });
    settleDown(accounts.length, false);
    try {
      const dryRun = options['dry-run'] === true;
      const results = await inParallel(
        accounts,
        config.concurrency,
        async (account) => await drain(account, engine, dryRun, progress, (line) => context.warn(line)),
      );
      progress.end();
      if (context.json) context.print(JSON.stringify(results, undefined, 2));
      else for (const line of results.flatMap(describe)) context.print(line);
      return exitCode(results);
    } finally {
      context.stop.removeEventListener('abort', onStop);
      await engine.close();
    }
  },
};

/** Polls one account until nothing is left that could be done now. */
async function drain(
  account: AccountConfig,
  engine: Engine,
  dryRun: boolean,
  progress: Progress,
  warn: (line: string) => void,
): Promise<Result> {
  const total = { delivered: 0, deleted: 0, octets: 0, quarantined: 0 };
  const began = performance.now();
  const result = (outcome: Result['outcome'], reason = '', remedy = ''): Result => ({
    account: account.name,
    outcome,
    ...total,
    reason,
    remedy,
  });
  let isTold = false;
  for (;;) {
    const report = await visit(account, engine, {
      force: true,
      dryRun,
      onProgress: (summary: PollSummary) => progress.update(account.name, summary),
    });
    if (report === undefined || report.outcome === 'busy') {
      const waited = performance.now() - began;
      if (engine.tools.stop.aborted || waited > BUSY_LIMIT)
        return result('busy', 'another worker polls this account now, or as many as its server is allowed');
      if (report && !isTold && waited > BUSY_TOLD) {
        isTold = true;
        warn(`${account.name}: another worker polls it, or one that died did until a moment ago; waiting`);
      }
      await new Promise((resolve) => setTimeout(resolve, BUSY_WAIT));
      continue;
    }
    const ready = 'background' in report && report.background ? await report.background : false;
    switch (report.outcome) {
      case 'held':
        return result('failed', `held off until ${new Date(report.until).toISOString()}`);
      case 'failed':
        return result('failed', report.failure.message, report.failure.remedy);
      case 'planned':
        return { ...result('planned'), plan: planned(report.plan) };
      case 'done': {
        const { summary, next } = report;
        total.delivered += summary.delivered;
        total.deleted += summary.deleted;
        total.octets += summary.octets;
        progress.done(account.name, summary);
        if ((summary.more || ready) && !engine.tools.stop.aborted) continue;
        total.quarantined = summary.quarantined;
        return summary.more || ready || next > 0 || summary.quarantined > 0
          ? result('waiting', waitingFor(summary, next))
          : result('drained');
      }
    }
  }
}

/** One poll within the limits over all workers; undefined where its server has as many sessions as it may. */
async function visit(account: AccountConfig, engine: Engine, options: PollOptions): Promise<PollReport | undefined> {
  const use = engine.enter();
  const slot = await use.slot(account);
  try {
    return slot ? await poll(account, use.tools, options) : undefined;
  } finally {
    slot?.leave();
    use.leave();
  }
}

function waitingFor({ quarantined, more }: PollSummary, next: number): string {
  if (quarantined > 0) return `${quarantined} quarantined: see "mailferry messages list"`;
  if (more) return 'stopped before all was done';
  return next > 0 ? `some mail is not delivered yet; next attempt ${relative(next, Date.now())}` : '';
}

function planned({ retrieve, delete: deletes, put, next }: Plan): {
  retrieve: number;
  octets: number;
  delete: number;
  skip: number;
  quarantine: number;
  next: number;
} {
  return {
    retrieve: retrieve.length,
    octets: retrieve.reduce((sum, { row }) => sum + Math.max(0, row.size), 0),
    delete: deletes.length,
    skip: put.filter(({ before, after }) => before === undefined && after.state === 'skipped').length,
    quarantine: put.filter(({ before, after }) => before === undefined && after.state === 'quarantined').length,
    next,
  };
}

function describe(result: Result): string[] {
  const { account, outcome, delivered, deleted, plan } = result;
  const reason = result.reason === '' ? '' : `: ${printable(result.reason, 500)}`;
  if (plan) {
    return [
      `${account}: would retrieve ${plan.retrieve} messages (${octets(plan.octets)}), delete ${plan.delete}, skip ${plan.skip}, quarantine ${plan.quarantine}`,
    ];
  }
  const counts = `${delivered} deliveries (${octets(result.octets)}), ${deleted} deleted`;
  const lines = [`${account}: ${outcome === 'failed' ? 'FAILED' : outcome}, ${counts}${reason}`];
  if (result.remedy !== '') lines.push(`  ${printable(result.remedy, 500)}`);
  return lines;
}

function exitCode(results: readonly Result[]): ExitCode {
  if (results.some(({ outcome }) => outcome === 'failed')) return EXIT.unavailable;
  return results.some(({ outcome }) => outcome === 'waiting' || outcome === 'busy') ? EXIT.undelivered : EXIT.done;
}

async function inParallel<In, Out>(
  items: readonly In[],
  limit: number,
  run: (item: In) => Promise<Out>,
): Promise<Out[]> {
  const results = new Array<Out>();
  const queue = items.entries();
  const lane = async (): Promise<void> => {
    for (const [index, item] of queue) results[index] = await run(item);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  return results;
}
