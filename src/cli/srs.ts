/** `srs`: the sender behind an address that a destination with `from: srs` has made. */

import { srsReverse } from '../delivery/srs.ts';
import { printable } from '../untrusted.ts';
import { EXIT, usableConfig, UsageError } from './command.ts';
import type { Command } from './command.ts';

export const srs: Command = {
  name: 'srs',
  usage: 'ADDRESS',
  summary: 'the sender behind a rewritten reverse-path (SRS0 or SRS1)',
  options: {},
  async run([address], _options, context) {
    if (address === undefined) throw new UsageError('srs needs an address, as SRS0=...@your.domain');
    const config = await usableConfig(context);
    const reasons = new Set<string>();
    let keys = 0;
    for (const destination of config.destinations.values()) {
      if (!('from' in destination) || typeof destination.from !== 'object' || destination.from.kind !== 'srs') continue;
      keys += 1;
      const { domain } = destination.from;
      const secrets = await Promise.all(destination.from.secrets.map(async (secret) => await secret.reveal()));
      const found = srsReverse(address, { domain, secrets }, new Date());
      if (found.kind === 'address') {
        context.print(
          context.json
            ? JSON.stringify({ address: found.address, destination: destination.name })
            : printable(found.address, 500),
        );
        return EXIT.done;
      }
      reasons.add(`${destination.name}: ${found.reason}`);
    }
    context.warn(
      keys === 0
        ? 'no destination of the config has `from: srs`'
        : `${printable(address)} cannot be reversed: ${[...reasons].join('; ')}`,
    );
    return EXIT.undelivered;
  },
};
