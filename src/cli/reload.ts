/**
 * Reload: when the config changes, or at SIGHUP, it is loaded and checked as a whole, and applied as a whole or not at all.
 * One reload at a time; what changes during one makes another. A config that is wrong leaves the last good one in use.
 */

import { difference, isEmpty, withoutRestart } from '../config/difference.ts';
import { explainProblem } from '../config/explain.ts';
import type { Config, Loaded } from '../config/types.ts';
import { watchConfig } from '../config/watch.ts';
import type { Watch } from '../config/watch.ts';
import { reasonOf } from '../failure.ts';
import type { ProcessEvents } from '../ops/events.ts';

/** What takes a config that is right: it throws, with all as before, if it cannot. */
export interface Reloadable {
  readonly config: Config;
  apply(config: Config, changes: ReturnType<typeof difference>): void;
}

export class Reload {
  readonly #load: () => Promise<Loaded>;
  readonly #watch: Watch | undefined;
  readonly #hangup = (): void => void this.#reload('SIGHUP');
  #target: Reloadable | undefined;
  #events: ProcessEvents | undefined;
  #onEnd: () => void = () => undefined;
  #asked: 'SIGHUP' | 'change' | undefined;
  #running: Promise<void> | undefined;
  #closed = false;
  #refused = '';
  #problem = '';

  /**
   * Watches from now on, so that no change is missed between loading and running: those that come before `begin` wait for it.
   * @param path the file or folder; undefined: there is none to watch
   */
  constructor(path: string | undefined, load: () => Promise<Loaded>) {
    this.#load = load;
    this.#watch = path === undefined ? undefined : watchConfig(path, () => this.#reload('change'));
    process.on('SIGHUP', this.#hangup);
  }

  /** Resolves when changes are noticed. */
  get ready(): Promise<void> {
    return this.#watch?.ready ?? Promise.resolve();
  }

  /** The first thing that is wrong with the config as it is written now; empty if that is the one in use. */
  get problem(): string {
    return this.#problem;
  }

  /** @param onEnd called after each reload, however it ended */
  begin(target: Reloadable, events: ProcessEvents, onEnd: () => void): void {
    this.#target = target;
    this.#events = events;
    this.#onEnd = onEnd;
    if (this.#asked) void this.#reload(this.#asked);
  }

  /** No reload begins after it. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#watch?.close();
    process.off('SIGHUP', this.#hangup);
    await this.#running;
  }

  async #reload(reason: 'SIGHUP' | 'change'): Promise<void> {
    if (this.#asked !== 'SIGHUP') this.#asked = reason;
    this.#running ??= this.#reloadAll().finally(() => (this.#running = undefined));
    await this.#running;
  }

  async #reloadAll(): Promise<void> {
    while (this.#asked && this.#target && this.#events && !this.#closed) {
      const reason = this.#asked;
      this.#asked = undefined;
      try {
        this.#take(await this.#load(), reason, this.#target, this.#events);
      } catch (error) {
        this.#problem = reasonOf(error);
        this.#events.failed(error);
      }
      this.#onEnd();
    }
  }

  #take({ config, problems }: Loaded, reason: 'SIGHUP' | 'change', target: Reloadable, events: ProcessEvents): void {
    const errors = problems.filter(({ severity }) => severity === 'error').map(explainProblem);
    if (config?.accounts.size === 0 && errors.length === 0) errors.push(`${config.source}: holds no account`);
    if (!config || errors.length > 0) {
      const all = errors.join('\n');
      // A change that is wrong in the same way says nothing new.
      if (reason === 'SIGHUP' || all !== this.#refused) for (const problem of errors) events.configRefused(problem);
      this.#problem = errors[0] ?? '';
      this.#refused = all;
      return;
    }
    const changes = difference(target.config, config);
    for (const problem of problems) events.configProblem(explainProblem(problem), problem.remedy, problem.severity);
    if (changes.needsRestart.length > 0) events.configNeedsRestart(changes.needsRestart);
    if (isEmpty({ ...changes, needsRestart: [] })) {
      if (reason === 'SIGHUP' || this.#refused !== '') events.configUnchanged();
    } else {
      target.apply(withoutRestart(target.config, config), changes);
      events.log.level = config.log.level;
      const { accounts, destinations, settings } = changes;
      events.configApplied({ accounts, destinations, settings });
    }
    this.#refused = '';
    this.#problem = '';
  }
}
