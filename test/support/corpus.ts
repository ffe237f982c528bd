/** Mail of every shape for whole runs: sizes from nothing to megabytes, and the octets that forwarders break. The same for a seed. */

import { createHash } from 'node:crypto';

export interface CorpusMessage {
  /** As put into the maildrop. */
  readonly octets: Buffer;
  /** What RETR gives of it from a server that stores lines with LF, as octets and as SHA-256. */
  readonly retrieved: Buffer;
  readonly sha256: string;
  readonly shape: string;
  /** True if SMTP carries it unchanged: no lone CR or LF, no NUL in doubt, a header, a last line end. */
  readonly smtpSafe: boolean;
}

/** A generator of numbers in [0, 1) from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

const SHAPES = ['plain', 'plain', 'plain', 'eightBit', 'nul', 'dots', 'longLine', 'loneCr', 'noFinalNewline'] as const;

/** @param largest octets of the largest body; a few messages come near it, most are small */
export function corpus(count: number, largest: number, seed = 1): CorpusMessage[] {
  const random = seeded(seed);
  return Array.from({ length: count }, (_, index) => {
    if (index === 0) return finished(Buffer.alloc(0), 'empty', false);
    if (index === 1) return finished(Buffer.from('no header at all\r\n\r\njust text\r\n'), 'noHeader', false);
    const shape = SHAPES[Math.floor(random() * SHAPES.length)] ?? 'plain';
    const size = index % 200 === 5 ? largest : Math.floor(random() ** 6 * Math.min(largest, 200_000));
    const header = Buffer.from(
      `Received: from sender.example by isp.example id ${index}; Mon, 02 Nov 2026 10:00:00 +0000\r\n` +
        `From: Sender ${index} <s${index}@sender.example>\r\nTo: jane@isp.example\r\nSubject: message ${index} (${shape})\r\n` +
        `Message-ID: <${seed}.${index}@sender.example>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\n`,
      'latin1',
    );
    return finished(
      Buffer.concat([header, body(shape, size, random)]),
      shape,
      shape !== 'loneCr' && shape !== 'noFinalNewline',
    );
  });
}

function body(shape: (typeof SHAPES)[number], size: number, random: () => number): Buffer {
  const lines: string[] = [];
  for (let length = 0; length < size || lines.length === 0; length += (lines.at(-1)?.length ?? 0) + 2) {
    const text = Math.floor(random() * 0xffffffff)
      .toString(36)
      .repeat(1 + Math.floor(random() * 8));
    lines.push(line(shape, text, random));
  }
  if (shape === 'longLine') lines.push('x'.repeat(100_000));
  const text = lines.join('\r\n');
  return Buffer.from(shape === 'noFinalNewline' ? text : `${text}\r\n`, 'latin1');
}

function line(shape: (typeof SHAPES)[number], text: string, random: () => number): string {
  if (shape === 'eightBit') return `${text} \u00e4\u00f6\u00fc\u00df \u00ff\u0080`;
  if (shape === 'nul') return `${text}\u0000${text}`;
  if (shape === 'dots') return ['.', '..', `.${text}`, '...', text][Math.floor(random() * 5)] ?? '.';
  return shape === 'loneCr' ? `${text}\r${text}` : text;
}

function finished(octets: Buffer, shape: string, smtpSafe: boolean): CorpusMessage {
  const ends = octets.subarray(-2).toString('latin1') === '\r\n';
  const retrieved = ends ? octets : Buffer.concat([octets, Buffer.from('\r\n')]);
  return { octets, retrieved, sha256: createHash('sha256').update(retrieved).digest('hex'), shape, smtpSafe };
}
