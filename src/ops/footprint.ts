/**
 * Keeps a worker small. V8 lets young garbage grow as if memory were free, and the C library keeps what it frees; a worker is
 * mostly idle and shares a small server, so it starts itself anew (the same process id) with settings that give memory back.
 */

import { enableCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';

const MARK = 'MAILFERRY_FOOTPRINT';
/** One thread beside the main one compiles and collects: four crowd it out where there are two processors. */
const FLAGS = ['--max-semi-space-size=8', '--expose-gc', '--v8-pool-size=1'];
/** The V8 of Node 24. Another may name otherwise what follows, and would say so on standard error. */
const V8 = '13.';
/**
 * Without its last optimisers (of scripts, and of WebAssembly, which parses HTTP for webhooks): what these gain in hundreds of
 * functions that wait for the network they take for themselves, in time and memory. Set once it runs, as far as that can be: no
 * start fails of it.
 */
const COMPILERS = [
  '--no-opt',
  // The first alone counts, but takes the others with it only at a start.
  '--liftoff-only',
  '--no-wasm-tier-up',
  '--no-wasm-dynamic-tiering',
];
// Garbage is looked for once the heap has grown by so much, not when it has doubled. A V8 that does not know it goes on.
const GROWTH = '--heap-growing-percent=25';
/** Accounts whose sessions together leave more behind than their work is held up by collecting it. */
const MANY = 50;
/**
 * For glibc: large buffers are returned when they are freed, but not those of 64 KB that Node reads into, of which each read takes
 * one; and threads share one heap. Other C libraries ignore it.
 */
const ALLOCATOR = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '81920',
  MALLOC_TRIM_THRESHOLD_: '131072',
};

/** True if it was started with these settings. */
function isSmall(): boolean {
  return FLAGS.every((flag) => process.execArgv.includes(flag));
}

/**
 * Replaces this process by the same program with small settings. Returns if it has them, which settles the rest; and if they were
 * switched off (`MAILFERRY_FOOTPRINT=default` in the environment) or cannot be had here: then all works as well, with more memory.
 */
export function startSmall(main: string, argv: readonly string[]): void {
  const { env, execArgv, execPath, versions } = process;
  if (isSmall()) {
    if (versions.v8.startsWith(V8)) for (const flag of COMPILERS) setFlagsFromString(flag);
    return;
  }
  if (env[MARK] !== undefined || typeof process.execve !== 'function' || process.platform === 'win32') return;
  const cache = enableCompileCache().directory;
  const emitWarning = process.emitWarning.bind(process);
  // It is marked experimental, which is no news to whoever reads the log.
  process.emitWarning = () => undefined;
  try {
    process.execve(execPath, [execPath, ...execArgv, ...FLAGS, main, ...argv], {
      ...env,
      ...ALLOCATOR,
      // Named in the environment, it serves for the entry too.
      ...(cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }),
      [MARK]: 'small',
    });
  } catch {
    // Not permitted here (a sandbox): go on as we are.
  } finally {
    process.emitWarning = emitWarning;
  }
}

/**
 * For a process that has started. One that stays, or has many accounts, gives back at once what the start has left lying around:
 * some 10 MB, for 40 ms of CPU. With many accounts garbage is collected sooner from then on.
 */
export function settleDown(accounts: number, stays: boolean): void {
  const many = accounts >= MANY;
  if (many && isSmall()) setFlagsFromString(GROWTH);
  if (stays || many) globalThis.gc?.({ type: 'major', flavor: 'last-resort', execution: 'sync' });
}
