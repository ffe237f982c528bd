/**
 * Notices when the config changes, by looking every few seconds: file events miss editors that write a new file in its
 * place, Kubernetes' swap of a folder's symbolic link, and network file systems.
 */

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { configFilesIn, LARGEST_FILE } from './folder.ts';
import { readBounded } from './read-bounded.ts';

export interface WatchOptions {
  /** Milliseconds between two looks. */
  readonly interval?: number;
}

export interface Watch {
  /** Resolves after the first look: changes from here on are noticed. */
  readonly ready: Promise<void>;
  /** Ends the watch. `onChange` is not called again, though a call that runs already ends by itself. */
  close(): void;
}

/**
 * Calls `onChange` each time that the content of the file or folder at `path` has changed and has then stayed the same for
 * one look, so that a file is not read half-written. Calls do not overlap. A file that disappears counts as a change, too.
 * What `onChange` throws is not caught here.
 */
export function watchConfig(path: string, onChange: () => void | Promise<void>, options: WatchOptions = {}): Watch {
  const { interval = 2000 } = options;
  const absolute = resolve(path);
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let known: string | undefined;
  let last: string | undefined;
  let print: Print = { cheap: '', content: '' };

  async function look(): Promise<void> {
    print = await fingerprint(absolute, print);
    const now = print.content;
    known ??= now;
    const settled = now === last;
    last = now;
    if (closed || !settled || now === known) return;
    known = now;
    await onChange();
  }
  async function turn(): Promise<void> {
    await look();
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- close() may have been called meanwhile
    if (!closed) timer = setTimeout(() => void turn(), interval);
  }
  const { promise: ready, resolve: firstLook } = Promise.withResolvers<void>();
  void turn().then(firstLook);
  return {
    ready,
    close(): void {
      closed = true;
      clearTimeout(timer);
    },
  };
}

/** `cheap` tells whether reading is worth it, `content` whether anything changed. */
interface Print {
  readonly cheap: string;
  readonly content: string;
}

async function fingerprint(path: string, before: Print): Promise<Print> {
  try {
    const files = (await stat(path)).isDirectory() ? await configFilesIn(path) : [path];
    const stats = await Promise.all(files.map((file) => stat(file)));
    const cheap = stats
      .map(({ dev, ino, size, mtimeMs, ctimeMs }, index) => [files[index], dev, ino, size, mtimeMs, ctimeMs].join(' '))
      .join('\n');
    if (cheap === before.cheap) return before;
    const hash = createHash('sha256');
    for (const file of files) hash.update(`${file}\n`).update(await readBounded(file, LARGEST_FILE));
    return { cheap, content: hash.digest('hex') };
  } catch (thrown) {
    // in the middle of a swap files come and go: the next look will tell
    return { cheap: '', content: thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unreadable' };
  }
}
