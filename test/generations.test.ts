// Which destinations are open while configs come and go: opened anew only if they changed, closed when nobody uses them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Config, DestinationConfig } from '../src/config/types.ts';
import type { Destination } from '../src/delivery/destination.ts';
import { Generations } from '../src/generations.ts';

/** A config with these destinations; where each lies tells one opening from another. */
function config(places: Readonly<Record<string, string>>): Config {
  const destinations = new Map(
    Object.entries(places).map(([name, path]) => [
      name,
      { name, path } as Partial<DestinationConfig> as DestinationConfig,
    ]),
  );
  return { destinations } as Partial<Config> as Config;
}

function opener(): { readonly log: string[]; readonly open: (options: DestinationConfig) => Destination } {
  const log: string[] = [];
  return {
    log,
    open(options) {
      const { name, path } = options as Extract<DestinationConfig, { type: 'maildir' }>;
      if (path === 'bad') throw new Error('cannot be opened');
      log.push(`open ${path}`);
      return {
        name,
        deliver: async () => await Promise.resolve({ kind: 'confirmed', said: path, scope: 'message' }),
        check: async () => await Promise.resolve(path),
        close: async () => await Promise.resolve(void log.push(`close ${path}`)),
      };
    },
  };
}

const fail = (error: unknown): never => assert.fail(String(error));

test('only what changed is opened anew, and the old one closes with its last user', async () => {
  const { log, open } = opener();
  const generations = new Generations(config({ a: 'a1', b: 'b1' }), open, fail);
  const first = generations.enter();
  const second = generations.enter();
  generations.replace(config({ a: 'a1', b: 'b2' }), new Set(['b']));
  assert.deepEqual(log, ['open a1', 'open b1', 'open b2']);
  assert.equal(generations.current.destinations.get('a'), first.destinations.get('a'), 'the same one');
  generations.leave(first);
  assert.equal(log.length, 3, 'somebody uses it still');
  generations.leave(second);
  assert.deepEqual(log.slice(3), ['close b1']);
  await generations.close();
  assert.deepEqual(log.slice(4).toSorted(), ['close a1', 'close b2']);
});

test('one that nobody uses closes at once, and so does one that was removed', () => {
  const { log, open } = opener();
  const generations = new Generations(config({ a: 'a1', b: 'b1' }), open, fail);
  generations.replace(config({ a: 'a2' }), new Set(['a']));
  assert.deepEqual(log, ['open a1', 'open b1', 'open a2', 'close a1', 'close b1']);
});

test('a poll over several reloads keeps what it began with', () => {
  const { log, open } = opener();
  const generations = new Generations(config({ a: 'a1' }), open, fail);
  const long = generations.enter();
  for (const path of ['a2', 'a3', 'a4']) generations.replace(config({ a: path }), new Set(['a']));
  assert.deepEqual(
    log.filter((line) => line.startsWith('close')),
    ['close a2', 'close a3'],
  );
  generations.leave(long);
  assert.equal(log.at(-1), 'close a1');
});

test('what cannot be opened changes nothing', () => {
  const { log, open } = opener();
  const generations = new Generations(config({ a: 'a1' }), open, fail);
  assert.throws(() => generations.replace(config({ a: 'a2', b: 'bad' }), new Set(['a'])), /cannot be opened/);
  assert.deepEqual(log, ['open a1', 'open a2', 'close a2']);
  assert.equal(generations.current.config.destinations.size, 1);
});
