/** Checked options to the config that the program uses: defaults that depend on others, base units, frozen. */

import { compileRouting } from './rule.ts';
import type { AccountOptions } from './account.ts';
import type { Compiling } from './compiling.ts';
import { KINDS } from './destinations/kinds.ts';
import { MINUTE } from './fields.ts';
import type { Settings } from './schema.ts';
import type { AccountConfig, Config, DestinationConfig, RedisConfig } from './types.ts';
import type { Validated } from './validate.ts';

const USUAL_INTERVAL = 5 * MINUTE;

/** Makes a `Compiling` for the secrets of one owner. */
export type CompilingFor = (scope: 'account' | 'destination' | 'process', prefix: string) => Compiling;

export function compileConfig(
  { destinations, accounts }: Pick<Validated, 'destinations' | 'accounts'>,
  settings: Settings,
  source: string,
  dataDir: string,
  compilingFor: CompilingFor,
): Config {
  const { http } = settings;
  const compiling = compilingFor('process', '');
  return frozen({
    source,
    dataDir,
    redis: compileRedis(settings, compiling),
    http:
      http === undefined
        ? undefined
        : {
            host: http.listen.host,
            port: http.listen.port,
            token: http.token === undefined ? undefined : compiling.secret(http.token, 'http.token'),
          },
    ...(settings.alerts === undefined
      ? {}
      : {
          alerts: {
            deliverTo: [...new Set(settings.alerts.deliverTo)],
            after: settings.alerts.after,
            from: settings.alerts.from,
          },
        }),
    log: { level: settings.log.level },
    history: { keep: settings.history.keep, events: settings.history.events },
    concurrency: settings.concurrency,
    memoryBudget: settings.memoryBudget,
    spoolBudget: settings.spoolBudget,
    limits: {
      sessionsPerServer: settings.limits.sessionsPerServer,
      deliveriesPerDestination: settings.limits.deliveriesPerDestination,
    },
    destinations: new Map(
      destinations.flatMap(({ name, type, options }): [string, DestinationConfig][] => {
        const config = KINDS.get(type)?.compile(name, options, compilingFor('destination', `destinations.${name}.`));
        return config === undefined ? [] : [[name, config]];
      }),
    ),
    accounts: new Map(
      accounts.map(({ name, options }) => [
        name,
        compileAccount(name, options, compilingFor('account', `accounts.${name}.`)),
      ]),
    ),
  });
}

function compileRedis({ redis }: Settings, compiling: Compiling): RedisConfig {
  if (redis?.url !== undefined) return { kind: 'url', url: compiling.secret(redis.url, 'redis.url') };
  if (redis?.socket !== undefined) return { kind: 'socket', path: compiling.path(redis.socket) };
  return { kind: 'embedded' };
}

function compileAccount(name: string, options: AccountOptions, compiling: Compiling): AccountConfig {
  return {
    name,
    host: options.host,
    port: options.port ?? (options.security === 'tls' ? 995 : 110),
    security: options.security,
    tls: compiling.tls(options),
    user: options.user,
    password: options.password === undefined ? undefined : compiling.secret(options.password, 'password'),
    ...(options.accessToken === undefined ? {} : { accessToken: compiling.secret(options.accessToken, 'accessToken') }),
    mechanism: options.mechanism,
    schedule:
      options.schedule === undefined
        ? { kind: 'every', milliseconds: options.every ?? USUAL_INTERVAL }
        : { kind: 'cron', expression: options.schedule, timezone: options.timezone },
    ...compileRouting(options.deliverTo),
    retention: options.retention,
    firstPoll: options.firstPoll,
    maxMessageSize: options.maxMessageSize,
    maxMessagesPerPoll: options.maxMessagesPerPoll,
    giveUpAfter: options.giveUpAfter,
    timeout: options.timeout,
    proxy: options.proxy,
    sourceAddress: options.sourceAddress,
  };
}

/** Freezes plain objects and lists, all the way down; secrets and maps look after themselves. */
function frozen<T>(value: T): T {
  if (value instanceof Map) {
    for (const entry of value.values()) frozen(entry);
    return value;
  }
  const isPlain =
    Array.isArray(value) ||
    (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype);
  if (!isPlain) return value;
  for (const inner of Object.values(value as object)) frozen(inner);
  return Object.freeze(value);
}
