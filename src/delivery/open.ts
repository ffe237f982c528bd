/** Makes a destination of its config, limits included: the only file that knows all kinds. */

import type { DestinationConfig } from '../config/types.ts';
import type { Destination } from './destination.ts';
import { withLimits } from './limited.ts';
import { openSmtp } from './smtp.ts';
import type { DestinationContext } from './smtp.ts';
import { openWebhook } from './webhook.ts';

/** Opens a destination; nothing is connected before the first delivery. `close` it when done. */
export function openDestination(config: DestinationConfig, context: DestinationContext): Destination {
  return withLimits(openKind(config, context), config.concurrency, config.timeout);
}

function openKind(config: DestinationConfig, context: DestinationContext): Destination {
  switch (config.type) {
    case 'smtp':
      return openSmtp(config, context);
    case 'webhook':
      return openWebhook(config, context);
  }
}
