/**
 * A message of our own around the retrieved one (RFC 2046 §5.2.1; pure), for servers that refuse forwarded mail because
 * its sender's SPF or DMARC cannot pass. The original lies in it octet for octet.
 */

import { firstField, headerFields } from '../mail/header.ts';
import { dateTime } from './trace.ts';

export interface AttachDetails {
  readonly from: string;
  readonly to: readonly string[];
  readonly account: string;
  readonly id: string;
  readonly hostName: string;
  readonly header: Buffer;
  /** Of the original: the boundary is made of it, which therefore cannot occur in the original. */
  readonly sha256: string;
  readonly eightBit: boolean;
  readonly time: Date;
}

/** What comes before and after the original. */
export function attachFrame(details: AttachDetails): { readonly top: Buffer; readonly bottom: Buffer } {
  const boundary = `=_${details.sha256}`;
  const host = details.hostName.replace(/[^\w.-]/g, '_');
  const account = details.account.replace(/[^\w.@+-]/g, '_');
  const top = [
    `From: ${details.from}`,
    `To: ${details.to.join(',\r\n ')}`,
    `Subject: ${subject(details.header, account)}`,
    `Date: ${dateTime(details.time)}`,
    `Message-ID: <${details.id}@${host || 'localhost'}>`,
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    `Content-Type: multipart/mixed; boundary="${boundary}"`,
    '',
    `--${boundary}`,
    'Content-Type: text/plain; charset=us-ascii',
    '',
    `The attached message was fetched from the account ${account}.`,
    '',
    `--${boundary}`,
    'Content-Type: message/rfc822',
    'Content-Disposition: attachment; filename="message.eml"',
    ...(details.eightBit ? ['Content-Transfer-Encoding: 8bit'] : []),
    '',
    '',
  ];
  return { top: Buffer.from(top.join('\r\n')), bottom: Buffer.from(`\r\n--${boundary}--\r\n`) };
}

// Encoded words are ASCII and stay as they are; a subject that is not ASCII would need one and gets none.
function subject(header: Buffer, account: string): string {
  const original = firstField(headerFields(header), 'subject') ?? '';
  return /^[\x20-\x7e]{1,700}$/.test(original) ? `Fwd: ${original}` : `Mail from ${account}`;
}
