/**
 * Temporary folders that do not outlive the test process, and with them every process that a test started in one: a
 * janitor (`janitor.sh`) waits for the end of this process, whichever way it comes, and cleans up behind it.
 */

import { spawn } from 'node:child_process';
import { chmod, mkdtemp, realpath, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a test's context and `node:test` itself have in common: a place to leave work for later. */
export interface Owner {
  after(work: () => Promise<void>): void;
}

let janitor: Promise<string> | undefined;

/** Starts the janitor once a process; resolves to the folder that it watches. */
async function watched(): Promise<string> {
  const base = await realpath(tmpdir());
  const child = spawn(join(import.meta.dirname, 'janitor.sh'), [base, String(process.pid)], {
    detached: true, // a Ctrl-C for the tests is none for it
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.on('error', (error) => process.emitWarning(`no janitor for ${base}: ${error.message}`));
  child.unref();
  if (child.stdin instanceof Socket) child.stdin.unref();
  return base;
}

/**
 * A new empty folder with a short path (sockets may lie in it: 108 octets) that other users may enter but not list.
 * Removed when `owner` ends, else at the end of the process.
 */
export async function tempDir(owner?: Owner): Promise<string> {
  janitor ??= watched();
  const dir = await mkdtemp(join(await janitor, `mf-${String(process.pid)}-`));
  await chmod(dir, 0o711);
  owner?.after(() => removeDir(dir));
  return dir;
}

/** Removes a folder with all that is in it; a process that still writes there gets a second to end. */
export async function removeDir(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
}
