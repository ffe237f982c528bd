/**
 * The Maildir destination: written to `tmp`, flushed to the disk, renamed, and the folder flushed too, so that what is
 * confirmed survives a power cut. The name follows from the idempotency key: a delivery that is repeated in doubt replaces
 * its own file and adds none. It never touches a file that it did not write.
 */

import { mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { MaildirConfig } from '../config/types.ts';
import { Failure, reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { octetsOf } from './content.ts';
import type { Delivery, Destination, DestinationContext, Outcome } from './destination.ts';

// What a crash left in `tmp` (the format's own rule: 36 hours).
const LEFTOVER = 36 * 60 * 60_000;
// The disk or its rights, not the message.
const ANY_MESSAGE = new Set([
  'ENOSPC',
  'EDQUOT',
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOENT',
  'ENOTDIR',
  'EIO',
  'EMFILE',
  'ENFILE',
]);

export function openMaildir(config: MaildirConfig, context: DestinationContext): Destination {
  let prepared: Promise<void> | undefined;
  let counter = 0;

  function prepare(): Promise<void> {
    // a failure is not kept: the disk may be mounted by the next delivery
    prepared ??= makeFolders(config.path, context.now()).catch((error: unknown) => {
      prepared = undefined;
      throw error;
    });
    return prepared;
  }

  async function deliver(delivery: Delivery): Promise<Outcome> {
    const name = fileName(delivery, context.hostName);
    const target = config.flags === '' ? join('new', name) : join('cur', `${name}:2,${config.flags}`);
    const draft = join(config.path, 'tmp', `${name}.${String(process.pid)}-${String(counter++)}`);
    let renamed = false;
    try {
      await prepare();
      const found = delivery.attempt > 1 ? await earlier(config.path, name) : undefined;
      if (found !== undefined) return confirmed(`${found} (of an earlier attempt)`);
      await write(draft, delivery, config.lineEnds);
      renamed = true;
      await rename(draft, join(config.path, target));
      await flushFolder(join(config.path, config.flags === '' ? 'new' : 'cur'));
      return confirmed(target);
    } catch (error) {
      // what cannot be removed now is swept as a leftover
      if (!renamed) await unlink(draft).catch(() => undefined);
      if (error instanceof Failure && error.scope === 'message') {
        return { kind: 'deferred', said: printable(error.message), scope: 'message' };
      }
      const { code = '' } = error as NodeJS.ErrnoException;
      const scope = ANY_MESSAGE.has(code) ? 'destination' : 'message';
      const said = printable(delivery.signal.aborted ? reasonOf(delivery.signal.reason) : reasonOf(error));
      return { kind: renamed ? 'inDoubt' : 'deferred', said, scope };
    }
  }

  return {
    name: config.name,
    deliver,
    async check(): Promise<string> {
      const probe = join(config.path, 'tmp', `.mailferry-check.${String(process.pid)}`);
      try {
        await prepare();
        await (await open(probe, 'wx', 0o600)).close();
        await unlink(probe);
      } catch (error) {
        throw new Failure(`cannot write to the Maildir: ${reasonOf(error)}`, {
          scope: 'destination',
          code: 'maildir.write',
          server: config.path,
          remedy: 'Give the user that mailferry runs as the right to write there, or correct the path.',
          cause: error,
        });
      }
      return printable(`Maildir ${config.path}: can be written to`);
    },
    close: () => Promise.resolve(),
  };
}

/** Time of arrival first, as the format asks for; the rest is the same for every attempt at this delivery. */
function fileName(delivery: Delivery, hostName: string): string {
  const seconds = Math.floor(delivery.firstSeen.getTime() / 1000);
  const host = hostName.replace(/[^\w.-]/g, '_') || 'localhost';
  return `${String(seconds)}.${delivery.idempotencyKey.replace(/[^\w-]/g, '_')}.${host}`;
}

/** Where an earlier attempt that ended in doubt has left the message, if it has. */
async function earlier(path: string, name: string): Promise<string | undefined> {
  for (const folder of ['new', 'cur']) {
    const found = (await readdir(join(path, folder))).find((file) => file === name || file.startsWith(`${name}:`));
    if (found !== undefined) return join(folder, found);
  }
  return undefined;
}

async function makeFolders(path: string, now: Date): Promise<void> {
  for (const folder of ['tmp', 'new', 'cur']) await mkdir(join(path, folder), { recursive: true, mode: 0o700 });
  const tmp = join(path, 'tmp');
  for (const file of await readdir(tmp)) {
    // ours end in a process number and a counter behind the name
    if (!/^\d+\.[\w-]+\..*\.\d+-\d+$/.test(file)) continue;
    const { mtimeMs } = await stat(join(tmp, file));
    if (now.getTime() - mtimeMs > LEFTOVER) await unlink(join(tmp, file));
  }
}

async function write(draft: string, delivery: Delivery, lineEnds: MaildirConfig['lineEnds']): Promise<void> {
  const file = await open(draft, 'wx', 0o600);
  try {
    const octets = octetsOf(delivery.message);
    for await (const chunk of lineEnds === 'lf' ? withLf(octets) : octets) {
      delivery.signal.throwIfAborted();
      let written = 0;
      while (written < chunk.length) written += (await file.write(chunk, written)).bytesWritten;
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function* withLf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let heldCr = '';
  for await (const chunk of chunks) {
    const text = heldCr + chunk.toString('latin1');
    heldCr = text.endsWith('\r') ? '\r' : '';
    yield Buffer.from(text.slice(0, text.length - heldCr.length).replaceAll('\r\n', '\n'), 'latin1');
  }
  if (heldCr !== '') yield Buffer.from(heldCr);
}

async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function confirmed(place: string): Outcome {
  return { kind: 'confirmed', said: printable(place), scope: 'message' };
}
