/**
 * The webhook format `multipart` (RFC 7578): what `json` tells in a part `payload`, each attachment as a file of its own,
 * and the message itself, so that a receiver needs neither base64 nor a MIME parser. File names are the sender's: they are
 * kept inside their quotes here, and must not be used as paths there.
 */

import type { StoredMessage } from '../mail/message.ts';
import { octetsOf } from './content.ts';
import type { WebhookBody } from './webhook-body.ts';
import type { WebhookPayloadHead } from './webhook-payload.ts';

/**
 * The parts, in this order: `payload` (application/json, the attachments without their content), `attachment-1` and so
 * on in the order of the payload, and `message` (message/rfc822).
 */
export function multipartBody(head: WebhookPayloadHead, message: StoredMessage): WebhookBody {
  // A hash of the message cannot occur in the message; that it occurs in an attachment would take breaking SHA-256 too.
  const boundary = `mailferry-${message.sha256}`;
  const attachments = head.attachments.map((one, index) => ({ ...one, content: undefined, part: partName(index) }));
  const payload = JSON.stringify({ ...head, attachments });
  const front: Buffer[] = [partHead(boundary, 'payload', 'application/json'), Buffer.from(payload)];
  for (const [index, { content, filename, contentType }] of head.attachments.entries()) {
    front.push(partHead(boundary, partName(index), contentType, filename ?? `attachment-${String(index + 1)}`));
    front.push(Buffer.from(content, 'base64'));
  }
  front.push(partHead(boundary, 'message', 'message/rfc822', 'message.eml'));
  // the very first boundary has no line end before it
  const whole = Buffer.concat(front).subarray(2);
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    length: whole.length + message.size + tail.length,
    whole: undefined,
    async *open(): AsyncGenerator<Buffer, void, undefined> {
      yield whole;
      yield* octetsOf(message);
      yield tail;
    },
  };
}

function partName(index: number): string {
  return `attachment-${String(index + 1)}`;
}

function partHead(boundary: string, name: string, contentType: string, filename?: string): Buffer {
  const file = filename === undefined ? '' : `; filename="${quoted(filename)}"`;
  const type = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+$/.test(contentType) ? contentType : 'application/octet-stream';
  return Buffer.from(
    `\r\n--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\nContent-Type: ${type}\r\n\r\n`,
  );
}

// As HTML's form-data does; other controls are nobody's file name.
function quoted(filename: string): string {
  return filename
    .slice(0, 250)
    .toWellFormed()
    .replaceAll('"', '%22')
    .replace(/[\r\n]/g, (end) => (end === '\r' ? '%0D' : '%0A'))
    .replace(/\p{Cc}/gu, '_');
}
