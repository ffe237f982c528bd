/** `resume`: what to do with an account that stopped because its ledger was lost. */

import { openStore } from '../app.ts';
import { Failure } from '../failure.ts';
import { Holds } from '../sync/hold.ts';
import { chosenAccounts, commandEvents, EXIT, usableConfig, UsageError } from './command.ts';
import type { Command } from './command.ts';

export const resume: Command = {
  name: 'resume',
  usage: 'ACCOUNT [deliver|skip]',
  summary: 'lets a stopped account go on; after a lost ledger, says whether to deliver or skip what lies there',
  options: {},
  async run([account, choice], _options, context) {
    if (account === undefined || (choice !== undefined && choice !== 'deliver' && choice !== 'skip')) {
      throw new UsageError('resume needs an account, and after a lost ledger "deliver" or "skip"');
    }
    const config = await usableConfig(context);
    chosenAccounts(config, [account]);
    const store = await openStore(config, commandEvents('error', context));
    try {
      const holds = new Holds(store.redis);
      const hold = await holds.acquire(account);
      if (!hold)
        throw new Failure(`${account} is being polled`, {
          scope: 'account',
          code: 'lease.busy',
          remedy: 'Try again when the poll has ended.',
        });
      try {
        const lost = hold.ledger.state.polledSince === 0;
        await hold.ledger.saveState({
          trouble: undefined,
          failures: 0,
          notBefore: 0,
          ...(lost && choice !== undefined ? { resume: choice } : {}),
        });
        context.print(
          `${account} is polled again${lost && choice !== undefined ? `; what lies there: ${choice}` : ''}`,
        );
        return EXIT.done;
      } finally {
        await holds.release(hold);
      }
    } finally {
      await store.close();
    }
  },
};
