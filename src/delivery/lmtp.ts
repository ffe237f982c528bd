/**
 * The LMTP destination (RFC 2033): a mail store such as Dovecot, by TCP or a Unix socket. Each recipient gets a reply of
 * its own after the final dot, so that one full mailbox holds up no other.
 */

import type { LmtpConfig } from '../config/types.ts';
import type { Destination, DestinationContext } from './destination.ts';
import { openTransfer } from './transfer.ts';

/** Opens it; nothing is connected before the first delivery. */
export function openLmtp(config: LmtpConfig, context: DestinationContext): Destination {
  return openTransfer({ ...config, places: [config.place], lmtp: true }, context);
}
