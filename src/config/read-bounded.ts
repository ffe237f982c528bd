/** Reads the beginning of a file: all of a small one, and of a large one no more than asked for. */

import { open } from 'node:fs/promises';

/** At most `limit` octets. Throws what the file system throws. */
export async function readBounded(path: string, limit: number): Promise<Buffer> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  // pipes and devices say 0
  const buffer = Buffer.alloc(Math.min(limit, size > 0 ? size + 1 : limit));
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}
