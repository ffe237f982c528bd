/** The demo as people run it: a process, what it prints, how it ends, and that it leaves nothing. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { assertNoLeaks } from '../support/leaks.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const TITLES = [
  'Plain letter',
  'HTML with attachment',
  '8-bit French',
  'Photos, over a megabyte',
  'Newsletter',
  'Contract',
];

class Run {
  readonly child: ChildProcess;
  /** Its folder for temporary files, and nobody else's. */
  readonly temp: string;
  stdout = '';
  stderr = '';
  readonly #exit: Promise<unknown[]>;

  private constructor(child: ChildProcess, temp: string) {
    this.child = child;
    this.temp = temp;
    this.#exit = once(child, 'close');
    child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
  }

  static async start(owner: TestContext, ...args: readonly string[]): Promise<Run> {
    const temp = await tempDir(owner);
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const child = spawn(process.execPath, [MAIN, 'demo', ...args], {
      // Node's own cache of what it has compiled stays where every process shares it.
      env: { NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache'), ...env, TMPDIR: temp },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return new Run(child, temp);
  }

  /** Waits until it has printed that. */
  async says(text: string): Promise<void> {
    await until(() => this.stdout.includes(text), { timeout: 30_000, what: `"${text}" in the story` });
  }

  /** Waits for its end, and holds it to leaving no file and no process. @returns its exit code */
  async end(): Promise<unknown> {
    const [code] = await this.#exit;
    assert.deepEqual(readdirSync(this.temp), [], 'no file is left');
    // what was killed is gone a little later
    await until(() => livingIn(this.temp).length === 0, { timeout: 2000, what: 'no process is left' });
    return code;
  }
}

/** Processes whose folder or command line is there. */
function livingIn(folder: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      const place = readlinkSync(`/proc/${pid}/cwd`);
      return place.startsWith(folder) || readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(folder);
    } catch {
      return false; // gone meanwhile
    }
  });
}

interface Told {
  readonly event: string;
  readonly title: string;
  readonly destination?: string;
  readonly attempt?: number;
}

describe('the demo', { concurrency: 2 }, () => {
  test('ends with an empty maildrop and every octet at both places, in plain text', async (t) => {
    const run = await Run.start(t);
    assert.equal(await run.end(), 0, run.stderr);
    assert.equal(run.stderr, '');
    // oxlint-disable-next-line no-control-regex
    assert.doesNotMatch(run.stdout, /[\u0000-\u0009\u000b-\u001f]/, 'no escape sequences in a pipe');
    for (const title of TITLES) {
      const row = new RegExp(`^${title} +[\\d,]+ +[0-9a-f]{12} +same +same +deleted$`, 'm');
      assert.match(run.stdout, row);
    }
    assert.match(run.stdout, /The maildrop is empty\. Every octet arrived at both places, exactly once\./);
    assert.match(run.stdout, /inbox: 451 4\.7\.1 greylisted/);
    assert.match(run.stdout, /\$ mailferry messages retry old-isp --all/);
  });

  test('tells the story of each message, as JSON too', async (t) => {
    const run = await Run.start(t, '--json');
    assert.equal(await run.end(), 0, run.stderr);
    const told = run.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Told & Record<string, unknown>);
    const stories = TITLES.map((title) =>
      told
        .filter((moment) => moment.title === title)
        .map(({ event, destination = '', attempt }) => `${event} ${destination} ${attempt ?? ''}`.trim()),
    );
    const sorted = stories.map((story) => [story[0], ...story.slice(1, 3).sort(), ...story.slice(3)]);
    const smooth = ['retrieved', 'delivered helpdesk 1', 'delivered inbox 1', 'deleted'];
    assert.deepEqual(sorted.slice(0, 4), [smooth, smooth, smooth, smooth]);
    const again = ['retrieved', 'delivered inbox 2', 'deleted'];
    assert.deepEqual(sorted[4], ['retrieved', 'deferred inbox', 'delivered helpdesk 1', ...again]);
    assert.deepEqual(stories[5], ['retrieved', 'delivered helpdesk 1', 'quarantined', ...again]);
    const end = told.at(-1);
    assert.equal(end?.event, 'end');
    assert.equal(end?.['ok'], true);
    assert.equal(end?.['left'], 0);
  });

  for (const moment of ['A maildrop is emptied', 'quarantined', 'messages retry']) {
    test(`leaves nothing when it is stopped at "${moment}"`, async (t) => {
      const run = await Run.start(t);
      await run.says(moment);
      run.child.kill('SIGINT');
      assert.equal(await run.end(), 1, run.stderr);
      assert.equal(run.stderr, '');
      assert.match(run.stdout, /Stopped; \d messages are left in the maildrop/);
    });
  }

  test('leaves nothing when it is told twice to stop', async (t) => {
    const run = await Run.start(t);
    await run.says('retrieved');
    run.child.kill('SIGTERM');
    run.child.kill('SIGINT');
    assert.equal(await run.end(), 130, run.stderr);
  });

  test('leaves nothing when its terminal is closed', async (t) => {
    const run = await Run.start(t);
    await run.says('quarantined');
    run.child.kill('SIGHUP');
    assert.equal(await run.end(), 129, run.stderr);
  });

  test('leaves nothing when nobody reads on', async (t) => {
    const run = await Run.start(t);
    await run.says('retrieved');
    run.child.stdout?.destroy();
    assert.equal(await run.end(), 1);
    assert.equal(run.stderr, '');
  });
});
