/** `run`: the worker. It polls by the schedules until SIGTERM, then finishes what is in flight, QUITs and releases its leases. */

import { hostname } from 'node:os';
import { openAlerts } from '../alerting.ts';
import { awaitEngine } from '../app.ts';
import { explainProblem } from '../config/explain.ts';
import { Failure, reasonOf } from '../failure.ts';
import { settleDown } from '../ops/footprint.ts';
import { Heartbeat, readHealth } from '../ops/heartbeat.ts';
import type { HttpFace } from '../ops/http.ts';
import { collectStatus } from '../ops/status.ts';
import { Workers } from '../queue/workers.ts';
import type { WorkerFacts } from '../queue/workers.ts';
import { readBreakers } from '../store/breakers.ts';
import { readStates } from '../store/ledger.ts';
import { configDigest } from '../config/digest.ts';
import { findConfig } from '../config/source.ts';
import type { Config, Loaded } from '../config/types.ts';
import type { Engine } from '../app.ts';
import { createLog } from '../ops/log.ts';
import { ProcessEvents } from '../ops/events.ts';
import { Worker } from '../worker.ts';
import { VERSION } from '../version.ts';
import { ConfigError, EXIT, exitCodeOf, readConfig } from './command.ts';
import type { Command, Context, ExitCode } from './command.ts';
import { Reload } from './reload.ts';

export const run: Command = {
  name: 'run',
  usage: '',
  summary: 'the worker: polls by the schedules until SIGTERM',
  options: {},
  async run(_words, _options, context) {
    const path = await findConfig(context.configPath, context.env, context.cwd);
    const reload = new Reload(path, async () => await readConfig(context));
    try {
      await reload.ready;
      return await runWorker(await readConfig(context), reload, context);
    } finally {
      await reload.close();
    }
  },
};

async function runWorker(loaded: Loaded, reload: Reload, context: Context): Promise<ExitCode> {
  const { config } = loaded;
  if (!config || config.accounts.size === 0) throw new ConfigError(loaded);
  const events = new ProcessEvents(createLog({ level: config.log.level, pretty: context.isTerminal, fd: 1 }));
  for (const problem of loaded.problems)
    events.configProblem(explainProblem(problem), problem.remedy, problem.severity);
  try {
    const engine = await awaitEngine(config, events, context.stop);
    if (!engine) return EXIT.done;
    const heartbeat = new Heartbeat(config.dataDir, engine.store.redis, events);
    const worker = new Worker(engine, events);
    const workers = new Workers(engine.store.redis, {
      facts: () => factsOf(worker.config, reload.problem),
      onDiffer: (lines) => events.workersDiffer(lines),
      onAgree: () => events.workersAgree(),
      onError: (error) => events.queueTrouble(reasonOf(error)),
    });
    const alerts = openAlerts(engine, events);
    let face: HttpFace | undefined;
    try {
      await worker.start();
      await heartbeat.start();
      await workers.start();
      face = await serve(engine, reload, events);
      events.started({ accounts: config.accounts.size, destinations: config.destinations.size, version: VERSION });
      alerts.start();
      settleDown(config.accounts.size, true);
      reload.begin(worker, events, () => void workers.beat());
      await aborted(context.stop);
      events.stopping(String(context.stop.reason ?? 'stop'));
    } finally {
      await reload.close();
      await face?.close();
      await alerts.close();
      await worker.close();
      await heartbeat.stop();
      await workers.stop();
      await engine.close();
      // A connection that still tries to reach a Redis that is away must not keep the process alive.
      setTimeout(() => process.exit(), 1000).unref();
    }
    events.stopped();
    return EXIT.done;
  } catch (error) {
    events.failed(error);
    return error instanceof Failure ? exitCodeOf(error) : EXIT.unavailable;
  }
}

async function serve(engine: Engine, reload: Reload, events: ProcessEvents): Promise<HttpFace | undefined> {
  const { store, config } = engine;
  if (!config.http) return undefined;
  // Loaded where it is used: an HTTP server is 4 MB of Node's.
  const { openHttp } = await import('../ops/http.ts');
  const face = await openHttp(config.http, {
    health: async () => await readHealth(config.dataDir, Date.now()),
    status: async () => await collectStatus(store.redis, [...engine.config.accounts.values()], readStates),
    destinations: async () => {
      const breakers = await readBreakers(store.redis, [...engine.config.destinations.keys()]);
      return [...breakers].map(([name, { openUntil }]) => ({ name, paused: openUntil > 0 }));
    },
    configRefused: () => reload.problem !== '',
  });
  events.listening(face.address);
  return face;
}

/** What other workers, and `status`, may know of this one. */
function factsOf(config: Config, problem: string): WorkerFacts {
  const digest = digests.get(config) ?? configDigest(config);
  digests.set(config, digest);
  const { pid } = process;
  return { host: hostname(), pid, version: VERSION, accounts: config.accounts.size, digest, problem };
}
const digests = new WeakMap<Config, string>();

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    // Keeps the process alive even while every connection is being made anew.
    const alive = setInterval(() => undefined, 60_000);
    signal.addEventListener(
      'abort',
      () => {
        clearInterval(alive);
        resolve();
      },
      { once: true },
    );
  });
}
