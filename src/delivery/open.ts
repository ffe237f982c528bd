/** Makes a destination of its config, limits included: the only file that knows all kinds. */

import type { DestinationConfig } from '../config/types.ts';
import type { Destination, DestinationContext, SharedLimit } from './destination.ts';
import { withLimits } from './limited.ts';

/** Opens a destination; nothing is connected before the first delivery. `close` it when done. */
export function openDestination(
  config: DestinationConfig,
  context: DestinationContext,
  shared?: SharedLimit,
): Destination {
  const opened = lazy(config.name, async () => await openKind(config, context));
  const announces = config.type === 'smtp' || config.type === 'lmtp';
  return withLimits(opened, { limit: config.concurrency, timeout: config.timeout, announces, shared });
}

async function openKind(config: DestinationConfig, context: DestinationContext): Promise<Destination> {
  switch (config.type) {
    case 'smtp':
      return (await LOAD.smtp()).openSmtp(config, context);
    case 'lmtp':
      return (await LOAD.lmtp()).openLmtp(config, context);
    case 'maildir':
      return (await LOAD.maildir()).openMaildir(config, context);
    case 'imap':
      return (await LOAD.imap()).openImap(config, context);
    case 'webhook':
      return (await LOAD.webhook()).openWebhook(config, context);
  }
}

const LOAD = {
  smtp: async () => await import('./smtp.ts'),
  lmtp: async () => await import('./lmtp.ts'),
  maildir: async () => await import('./maildir.ts'),
  imap: async () => await import('./imap.ts'),
  webhook: async () => await import('./webhook.ts'),
};

/**
 * Loads what these destinations need, ahead of the first delivery: while Redis starts there is time for it. Throws nothing: what
 * cannot be loaded is told by the delivery that needs it.
 */
export async function loadDestinations(configs: Iterable<DestinationConfig>): Promise<void> {
  const types = new Set([...configs].map(({ type }) => type));
  await Promise.allSettled([...types].map(async (type) => await LOAD[type]()));
}

/** Opens it when it is used for the first time: the libraries of all kinds take longer to load than the rest of a start. */
function lazy(name: string, load: () => Promise<Destination>): Destination {
  let opening: Promise<Destination> | undefined;
  let opened: Destination | undefined;
  const open = async (): Promise<Destination> => (opened = await (opening ??= load()));
  return {
    name,
    deliver: (delivery) =>
      opened ? opened.deliver(delivery) : open().then((destination) => destination.deliver(delivery)),
    check: async (signal) => await (await open()).check(signal),
    close: async () => {
      if (opening) await (await opening).close();
    },
  };
}
