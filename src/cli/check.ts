/** `check`: validates the config, tries every login and every destination without delivering, and explains each failure. */

import { hostname } from 'node:os';
import { openSession, openStore } from '../app.ts';
import { explainProblems, problemsToJson } from '../config/explain.ts';
import type { AccountConfig, Config, DestinationConfig } from '../config/types.ts';
import { openDestination } from '../delivery/open.ts';
import { Failure, reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { chosenAccounts, commandEvents, EXIT, readConfig } from './command.ts';
import type { Command, Context } from './command.ts';

/** Checks at a time; each account's server sees one. */
const PARALLEL = 8;
const DESTINATION_TIMEOUT = 30_000;

interface Finding {
  readonly what: 'account' | 'destination' | 'redis';
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly remedy: string;
}

export const check: Command = {
  name: 'check',
  usage: '[ACCOUNT...]',
  summary: 'validates the config, tries every login and every destination without delivering',
  options: { offline: { type: 'boolean', help: 'the config only' } },
  async run(words, options, context) {
    const { config, problems } = await readConfig(context);
    const wrong = problems.some(({ severity }) => severity === 'error');
    const findings = config && options['offline'] !== true ? await tryAll(config, words, context) : [];
    if (context.json) {
      context.print(JSON.stringify({ problems: problemsToJson(problems), checks: findings }, undefined, 2));
    } else {
      if (problems.length > 0)
        context.warn(explainProblems(problems, config !== undefined && config.accounts.size > 0));
      for (const line of findings.flatMap(render)) context.print(line);
      if (!wrong && config && findings.length === 0)
        context.print(`${config.source}: ${config.accounts.size} accounts, no problem found`);
    }
    if (wrong || !config) return EXIT.config;
    return findings.some(({ ok }) => !ok) ? EXIT.unavailable : EXIT.done;
  },
};

async function tryAll(config: Config, words: readonly string[], context: Context): Promise<Finding[]> {
  const accounts = [...chosenAccounts(config, words).values()];
  const used = new Set(accounts.flatMap(({ deliverTo, fallback }) => [...deliverTo, ...Object.values(fallback)]));
  const destinations = [...config.destinations.values()].filter(({ name }) => words.length === 0 || used.has(name));
  const todo = [
    ...(words.length === 0 ? [async () => await tryRedis(config, context)] : []),
    ...accounts.map((account) => async () => await tryAccount(account, context.stop)),
    ...destinations.map((destination) => async () => await tryDestination(destination, context.stop)),
  ];
  const findings: Finding[] = [];
  for (let start = 0; start < todo.length; start += PARALLEL) {
    findings.push(...(await Promise.all(todo.slice(start, start + PARALLEL).map(async (run) => await run()))));
  }
  return findings;
}

async function tryRedis(config: Config, context: Context): Promise<Finding> {
  const name = config.redis.kind === 'embedded' ? 'embedded' : config.redis.kind;
  try {
    const store = await openStore(config, commandEvents('silent', context));
    await store.close();
    return { what: 'redis', name, ok: true, detail: 'answers', remedy: '' };
  } catch (error) {
    return failed('redis', name, error);
  }
}

async function tryAccount(account: AccountConfig, stop: AbortSignal): Promise<Finding> {
  try {
    const session = await openSession(account, stop);
    try {
      const { count, octets } = await session.stat();
      const secured = account.security === 'none' ? 'NOT encrypted' : account.security.toUpperCase();
      const ids = session.capabilities.uidl ? '' : '; does not announce unique-ids';
      return {
        what: 'account',
        name: account.name,
        ok: true,
        detail: `login works (${secured}): ${count} messages, ${octets} octets${ids}`,
        remedy: '',
      };
    } finally {
      await session.quit().catch(() => session.abort());
    }
  } catch (error) {
    return failed('account', account.name, error);
  }
}

async function tryDestination(config: DestinationConfig, stop: AbortSignal): Promise<Finding> {
  const destination = openDestination(config, { hostName: hostname(), now: () => new Date() });
  try {
    const detail = await destination.check(AbortSignal.any([stop, AbortSignal.timeout(DESTINATION_TIMEOUT)]));
    return { what: 'destination', name: config.name, ok: true, detail, remedy: '' };
  } catch (error) {
    return failed('destination', config.name, error);
  } finally {
    await destination.close();
  }
}

function failed(what: Finding['what'], name: string, error: unknown): Finding {
  const said =
    error instanceof Failure && error.said !== undefined && !error.message.includes(error.said)
      ? ` (it said: ${error.said})`
      : '';
  return {
    what,
    name,
    ok: false,
    detail: `${reasonOf(error)}${said}`,
    remedy: error instanceof Failure ? (error.remedy ?? '') : '',
  };
}

function render({ what, name, ok, detail, remedy }: Finding): string[] {
  const line = `${ok ? 'ok  ' : 'FAIL'}  ${what} ${name}: ${printable(detail, 600)}`;
  return remedy === '' ? [line] : [line, `      ${printable(remedy, 600)}`];
}
