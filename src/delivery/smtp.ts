/** The SMTP destination: a mail server or a submission service, with further hosts to fall back to. */

import type { SmtpConfig } from '../config/types.ts';
import type { Destination, DestinationContext } from './destination.ts';
import { openTransfer } from './transfer.ts';

/** Opens it; nothing is connected before the first delivery. */
export function openSmtp(config: SmtpConfig, context: DestinationContext): Destination {
  const places = [{ host: config.host, port: config.port }, ...(config.fallbackHosts ?? [])];
  return openTransfer({ ...config, places, lmtp: false }, context);
}
