/**
 * Runs a program for the little that it prints. Ends at its timeout whatever the program's children do, and never keeps
 * more than its limit.
 */

import { spawn } from 'node:child_process';
import { printableOctets } from '../untrusted.ts';

export interface RunOptions {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Milliseconds. */
  readonly timeout: number;
  /** Octets of output that are kept; a program that prints more is stopped. */
  readonly limit: number;
}

export type RunResult =
  | { readonly ok: true; readonly output: string }
  | { readonly ok: false; readonly reason: string };

/** After the program ended, output may still be on its way; its children may hold the pipe for ever. Milliseconds. */
const GRACE = 200;
const LONGEST_COMPLAINT = 200;

/** Standard output of a program that ended well; otherwise why it did not, with what it wrote to standard error. */
export function runForLine(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const { promise, resolve } = Promise.withResolvers<RunResult>();
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: options.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: process.platform !== 'win32', // a group of its own, so that its children end with it
  });
  let output = Buffer.alloc(0);
  let complaint = Buffer.alloc(0);
  let grace: NodeJS.Timeout | undefined;
  const settle = (result: RunResult): void => {
    clearTimeout(deadline);
    clearTimeout(grace);
    child.stdout.destroy();
    child.stderr.destroy();
    resolve(result);
  };
  const stop = (reason: string): void => {
    endGroup(child.pid);
    settle({ ok: false, reason });
  };
  const deadline = setTimeout(() => {
    stop(`it did not end within ${String(options.timeout / 1000)} s`);
  }, options.timeout);
  const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
    if (code === 0) return settle({ ok: true, output: output.toString('utf8') });
    const ending = signal === null ? `it ended with code ${String(code)}` : `it was ended by ${signal}`;
    const said = printableOctets(complaint, LONGEST_COMPLAINT).trim();
    settle({ ok: false, reason: said === '' ? ending : `${ending}: ${said}` });
  };
  child.stdout.on('data', (chunk: Buffer) => {
    output = Buffer.concat([output, chunk]);
    if (output.length > options.limit) stop(`it printed more than ${String(options.limit)} octets`);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    if (complaint.length < LONGEST_COMPLAINT)
      complaint = Buffer.concat([complaint, chunk]).subarray(0, LONGEST_COMPLAINT);
  });
  child.on('error', (error: NodeJS.ErrnoException) => {
    settle({ ok: false, reason: error.code === 'ENOENT' ? 'it is not installed here' : error.message });
  });
  child.on('exit', (code, signal) => {
    grace = setTimeout(finish, GRACE, code, signal);
  });
  child.on('close', finish);
  return promise;
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, 'SIGKILL');
  } catch (thrown) {
    // already gone: there is nothing left to end
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw thrown;
  }
}
