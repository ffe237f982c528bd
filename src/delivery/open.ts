/** Makes a destination of its config, limits included: the only file that knows all kinds. */

import type { DestinationConfig } from '../config/types.ts';
import type { Destination, DestinationContext } from './destination.ts';
import { openImap } from './imap.ts';
import { withLimits } from './limited.ts';
import { openLmtp } from './lmtp.ts';
import { openMaildir } from './maildir.ts';
import { openSmtp } from './smtp.ts';
import { openWebhook } from './webhook.ts';

/** Opens a destination; nothing is connected before the first delivery. `close` it when done. */
export function openDestination(config: DestinationConfig, context: DestinationContext): Destination {
  return withLimits(openKind(config, context), config.concurrency, config.timeout);
}

function openKind(config: DestinationConfig, context: DestinationContext): Destination {
  switch (config.type) {
    case 'smtp':
      return openSmtp(config, context);
    case 'lmtp':
      return openLmtp(config, context);
    case 'maildir':
      return openMaildir(config, context);
    case 'imap':
      return openImap(config, context);
    case 'webhook':
      return openWebhook(config, context);
  }
}
