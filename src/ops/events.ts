/**
 * Everything mailferry says of its work, one function an event: a static message, the data in fields. Never a subject, a body
 * or a secret; what others wrote is escaped here.
 */

import type { Logger } from 'pino';
import { Failure, reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';

export interface MessageFields {
  readonly uniqueId: string;
  readonly size?: number;
  readonly sha256?: string;
}

/** How one poll went, in numbers. */
export interface PollSummary {
  readonly listed: number;
  readonly retrieved: number;
  readonly octets: number;
  readonly delivered: number;
  readonly deferred: number;
  readonly rejected: number;
  readonly deleted: number;
  /** Messages of the account that wait for a person, also those of earlier polls. */
  readonly quarantined: number;
  /** Messages left for a further poll. */
  readonly more: boolean;
}

/** Names of entries of the config. */
export interface ConfigChanges {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

/** Events of one account. */
export class AccountEvents {
  readonly #parent: Logger;
  readonly #account: string;
  #child: Logger | undefined;

  constructor(log: Logger, account: string) {
    this.#parent = log;
    this.#account = account;
  }

  /** Made when there is something to say: most polls say nothing. */
  get #log(): Logger {
    this.#child ??= this.#parent.child({ account: this.#account });
    return this.#child;
  }

  polled(summary: PollSummary, milliseconds: number): void {
    const busy = summary.retrieved + summary.deleted > 0;
    if (!busy && !this.#parent.isLevelEnabled('debug')) return;
    this.#log[busy ? 'info' : 'debug']({ ...summary, milliseconds: Math.round(milliseconds) }, 'polled');
  }

  pollFailed(failure: Failure, until: number, needsPerson: boolean): void {
    this.#log[needsPerson ? 'error' : 'warn'](
      { ...describe(failure), nextPoll: new Date(until).toISOString(), needsPerson },
      'poll failed',
    );
  }

  recovered(failures: number): void {
    this.#log.info({ failures }, 'works again');
  }

  delivered(message: MessageFields, destination: string, said: string, attempt: number): void {
    // Told of every message: nothing is made ready that nobody reads.
    if (!this.#parent.isLevelEnabled('info')) return;
    this.#log.info({ ...escaped(message), destination, said: printable(said), attempt }, 'delivered');
  }

  deferred(message: MessageFields, destination: string, said: string, attempt: number, next: number): void {
    const nextAttempt = new Date(next).toISOString();
    this.#log.warn(
      { ...escaped(message), destination, said: printable(said), attempt, nextAttempt },
      'delivery deferred',
    );
  }

  inDoubt(message: MessageFields, destination: string, said: string): void {
    this.#log.warn(
      { ...escaped(message), destination, said: printable(said) },
      'delivery in doubt: it will be made again',
    );
  }

  quarantined(message: MessageFields, reason: string): void {
    this.#log.error({ ...escaped(message), reason: printable(reason) }, 'message quarantined: it stays on the server');
  }

  retrievalFailed(message: MessageFields, said: string, next: number): void {
    this.#log.warn(
      { ...escaped(message), said: printable(said), nextAttempt: new Date(next).toISOString() },
      'message not retrieved',
    );
  }

  deleted(count: number): void {
    this.#log.debug({ count }, 'deletes committed');
  }

  commitUnknown(count: number, reason: string): void {
    this.#log.warn({ count, reason: printable(reason) }, 'deletes not committed: they will be sent again');
  }

  deleteRefused(message: MessageFields, said: string): void {
    this.#log.warn({ ...escaped(message), said: printable(said) }, 'server refused a delete');
  }

  vanished(message: MessageFields): void {
    this.#log.warn(escaped(message), 'message vanished from the server before it was delivered everywhere');
  }

  uniqueIdsChanged(recognised: number, unmatched: number): void {
    this.#log.warn({ recognised, unmatched }, 'the server changed its unique-ids');
  }

  /** A delivery that ended after its session could not be written down: it counts as in doubt. */
  outcomeNotWritten(error: unknown): void {
    this.#log.error({ reason: printable(reasonOf(error)) }, 'outcome not written: the delivery will be made again');
  }

  bug(error: unknown): void {
    this.#log.error({ err: error }, 'unexpected error');
  }
}

/** Events of the process. */
export class ProcessEvents {
  readonly log: Logger;

  constructor(log: Logger) {
    this.log = log;
  }

  account(name: string): AccountEvents {
    return new AccountEvents(this.log, name);
  }

  started(fields: { readonly accounts: number; readonly destinations: number; readonly version: string }): void {
    this.log.info(fields, 'mailferry started');
  }

  stopping(signal: string): void {
    this.log.info({ signal }, 'stopping: finishing what is in flight');
  }

  stopped(): void {
    this.log.info('stopped');
  }

  failed(failure: unknown): void {
    this.log.error(failure instanceof Failure ? describe(failure) : { err: failure }, 'failed');
  }

  warning(message: string, remedy: string): void {
    this.log.warn({ remedy }, printable(message, 500));
  }

  configProblem(text: string, remedy: string, severity: 'error' | 'warning'): void {
    this.log[severity === 'error' ? 'error' : 'warn']({ problem: text, remedy }, 'config problem');
  }

  /** A reload: from here on polls begin under the new config. Names of what changed. */
  configApplied(changes: {
    readonly accounts: ConfigChanges;
    readonly destinations: ConfigChanges;
    readonly settings: readonly string[];
  }): void {
    this.log.info(changes, 'config applied');
  }

  configUnchanged(): void {
    this.log.info('config has not changed');
  }

  /** A reload that changes nothing, since the new config is wrong. */
  configRefused(problem: string): void {
    this.log.error({ problem: printable(problem, 2000) }, 'config not applied: the one from before stays in use');
  }

  configNeedsRestart(settings: readonly string[]): void {
    this.log.warn({ settings }, 'config needs a restart: these settings stay as they are until then');
  }

  /** @param workers one line each */
  workersDiffer(workers: readonly string[]): void {
    const remedy = 'Give all workers on this Redis the same config, and reload them.';
    this.log.warn({ workers, remedy }, 'workers run with different configs');
  }

  workersAgree(): void {
    this.log.info('workers run with the same config again');
  }

  redisTrouble(reason: string): void {
    this.log.warn({ reason: printable(reason) }, 'redis out of reach: waiting for it, mail waits on its servers');
  }

  redisBack(): void {
    this.log.info('redis is back');
  }

  destinationPaused(destination: string, until: number, failures: number, reason: string): void {
    this.log.warn(
      { destination, until: new Date(until).toISOString(), failures, said: printable(reason) },
      'destination paused',
    );
  }

  destinationBack(destination: string): void {
    this.log.info({ destination }, 'destination works again');
  }

  /** @param titles one line for each thing that is said in it */
  alert(subject: string, titles: readonly string[]): void {
    this.log.warn({ subject, says: titles }, 'alert');
  }

  alertDelivered(subject: string, destination: string, said: string): void {
    this.log.info({ subject, destination, said: printable(said) }, 'alert delivered');
  }

  alertNotDelivered(subject: string, destination: string, said: string, attempt: number): void {
    this.log.error({ subject, destination, said: printable(said), attempt }, 'alert not delivered');
  }

  alertHasNowhere(subject: string, destinations: readonly string[]): void {
    this.log.error({ subject, destinations }, 'alert not delivered: every destination for alerts is paused itself');
  }

  alertGivenUp(subject: string, destinations: readonly string[], after: string): void {
    this.log.error({ subject, destinations, after }, 'alert given up');
  }

  schedules(changes: { readonly added: number; readonly changed: number; readonly removed: number }): void {
    this.log.info(changes, 'schedules set');
  }

  queueTrouble(reason: string): void {
    this.log.debug({ reason: printable(reason) }, 'queue trouble');
  }

  listening(address: string): void {
    this.log.info({ address }, 'http listening');
  }
}

function escaped({ uniqueId, ...rest }: MessageFields): MessageFields {
  return { uniqueId: printable(uniqueId, 100), ...rest };
}

function describe(failure: Failure): Record<string, unknown> {
  const { code, server, said, remedy, message } = failure;
  return {
    code,
    reason: printable(message, 500),
    ...(server === undefined ? {} : { server }),
    ...(said === undefined ? {} : { said }),
    ...(remedy === undefined ? {} : { remedy }),
  };
}

/** Any thrown thing as a Failure, so that it can be shown and decided on. */
export function asFailure(thrown: unknown): Failure {
  if (thrown instanceof Failure) return thrown;
  return new Failure(`Unexpected: ${reasonOf(thrown)}`, {
    scope: 'account',
    code: 'bug',
    cause: thrown,
    remedy: 'Please report this.',
  });
}
