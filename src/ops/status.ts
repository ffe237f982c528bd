/** How every account stands, read from Redis without taking a lease. */

import type { Redis } from 'ioredis';
import type { AccountConfig } from '../config/types.ts';
import type { AccountState } from '../sync/account.ts';

export interface AccountStatus {
  readonly account: string;
  /** Empty if the account is not configured. */
  readonly server: string;
  readonly state: 'new' | 'ok' | 'trouble' | 'needs a person' | 'not configured';
  /** All times in milliseconds since 1970; 0 is never. */
  readonly lastPoll: number;
  readonly lastSuccess: number;
  /** The next poll that is due by itself; the schedule's is not known here. */
  readonly next: number;
  /** Messages on the server at the last complete listing; -1 if there was none. */
  readonly onServer: number;
  readonly backlog: boolean;
  readonly deferred: number;
  readonly quarantined: number;
  readonly inDoubt: number;
  readonly delivered: number;
  readonly deleted: number;
  readonly problem: string;
  readonly remedy: string;
}

/** Reads the state of one account. */
export type StateReader = (redis: Redis, accounts: readonly string[]) => Promise<readonly AccountState[]>;

/** The status of these accounts, in their order. @throws if Redis is out of reach */
export async function collectStatus(
  redis: Redis,
  accounts: readonly AccountConfig[],
  read: StateReader,
): Promise<AccountStatus[]> {
  const states = await read(
    redis,
    accounts.map((account) => account.name),
  );
  return accounts.map((account, index) => statusOf(account, states[index] as AccountState));
}

/** The status of accounts that were polled once and have left the config. @throws if Redis is out of reach */
export async function collectForgotten(
  redis: Redis,
  names: readonly string[],
  read: StateReader,
): Promise<AccountStatus[]> {
  const states = await read(redis, names);
  return names.map((name, index) => ({
    ...statusOf({ name, host: '', port: 0 }, states[index] as AccountState),
    server: '',
    state: 'not configured',
    next: 0,
    problem: 'it is not in the config: nothing is polled, and what the ledger knows of it stays',
    remedy: 'Put it back into the config under the same name to go on.',
  }));
}

function statusOf(
  { name, host, port }: Pick<AccountConfig, 'name' | 'host' | 'port'>,
  state: AccountState,
): AccountStatus {
  const { counts, trouble } = state;
  const needsPerson = trouble?.needsPerson === true || counts.quarantined > 0;
  return {
    account: name,
    server: `${host}:${port}`,
    state: needsPerson ? 'needs a person' : trouble ? 'trouble' : state.lastPoll === 0 ? 'new' : 'ok',
    lastPoll: state.lastPoll,
    lastSuccess: state.lastSuccess,
    next: Math.max(trouble?.until ?? 0, state.notBefore) || state.next,
    onServer: state.listing.count,
    backlog: state.more,
    deferred: counts.deferred,
    quarantined: counts.quarantined,
    inDoubt: counts.inDoubt,
    delivered: counts.delivered,
    deleted: counts.deleted,
    problem: trouble?.message ?? (counts.quarantined > 0 ? `${counts.quarantined} quarantined` : ''),
    remedy: trouble?.remedy ?? (counts.quarantined > 0 ? `See "mailferry messages list ${name}".` : ''),
  };
}
