/**
 * The demo: a sandbox in this process, and in it the real worker with its real queue and its real embedded Redis. It tells
 * what happens as it happens, compares what lay in the maildrop with what arrived, and leaves nothing behind.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { openEngine } from '../app.ts';
import { explainProblems } from '../config/explain.ts';
import { loadConfig } from '../config/load.ts';
import { Failure } from '../failure.ts';
import type { ProcessEvents } from '../ops/events.ts';
import { printable } from '../untrusted.ts';
import { Worker } from '../worker.ts';
import { Course } from './course.ts';
import { Narrator } from './narrator.ts';
import type { Tell } from './narrator.ts';
import { ACCOUNT, Sandbox } from './sandbox.ts';
import type { DemoRow, Scene } from './sandbox.ts';

/** It gives up after this. Milliseconds. */
const TIME_LIMIT = 50_000;
/** Retries come within seconds here, not minutes, so that one can be watched. */
const BACKOFF = { base: 4000, cap: 4000 };

export interface DemoOptions {
  /** Gets the scene before anything happens. */
  readonly set: (scene: Scene) => void;
  /** Gets the story, a moment at a time. */
  readonly tell: Tell;
  /** Where what the story does not tell is logged. */
  readonly log: ProcessEvents['log'];
  readonly stop: AbortSignal;
}

export interface DemoResult {
  readonly rows: readonly DemoRow[];
  /** Messages left in the maildrop. */
  readonly left: number;
  /** True if the maildrop is empty and every octet arrived everywhere, once. */
  readonly ok: boolean;
  /** True if it was told to stop before its end. */
  readonly stopped: boolean;
}

/** Runs it. @throws Failure if there is no redis-server, or nothing can be written */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  const { tell, stop } = options;
  const course = new Course(tell, AbortSignal.any([stop, AbortSignal.timeout(TIME_LIMIT)]));
  await using sandbox = await Sandbox.open(course.tell);
  await work(sandbox, course, options);
  const rows = sandbox.rows();
  const ok = rows.every((row) => row.deleted && row.inbox === 'same' && row.helpdesk === 'same');
  return { rows, left: sandbox.left, ok, stopped: stop.aborted };
}

/** Wires the worker as `run` does, but for its backoff, and ends it when the maildrop is empty. */
async function work(sandbox: Sandbox, course: Course, { set, log }: DemoOptions): Promise<void> {
  const { config, problems } = await loadConfig(sandbox.configPath, {}, sandbox.scene.folder);
  if (!config || problems.length > 0) throw new Error(explainProblems(problems, false));
  const events = new Narrator(log, course.tell);
  const engine = await openEngine(config, events, { deliveryBackoff: BACKOFF });
  try {
    set(sandbox.scene);
    const worker = new Worker(engine, events);
    try {
      await worker.start();
      // Only the two that the SMTP server objects to are left: one helps itself, for the other a person steps in.
      if (await course.reached(() => course.hasTold('quarantined') && sandbox.left <= 2)) {
        sandbox.lift();
        await retry(sandbox.configPath, course);
        await course.reached(() => sandbox.left === 0);
      }
    } finally {
      await worker.close();
    }
  } finally {
    await engine.close();
  }
}

/** What a person would type: the program itself, in a process of its own beside the worker. */
async function retry(configPath: string, { tell, signal }: Course): Promise<void> {
  const words = ['messages', 'retry', ACCOUNT, '--all'];
  const program = process.argv[1] ?? '';
  tell({ event: 'command', words: `mailferry ${words.join(' ')}` });
  const child = spawn(process.execPath, [...process.execArgv, program, '--config', configPath, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Gone before the folder is: what lives on there would start Redis again.
  const kill = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill);
  process.prependListener('exit', kill);
  try {
    const [out, err, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close') as Promise<[number | null]>,
    ]);
    if (signal.aborted) return;
    const said = printable((out + err).trim(), 1000);
    if (code !== 0) throw new Failure(`mailferry ${words.join(' ')}: ${said}`, { scope: 'process', code: 'demo' });
    tell({ event: 'answer', said });
  } finally {
    signal.removeEventListener('abort', kill);
    process.off('exit', kill);
  }
}
