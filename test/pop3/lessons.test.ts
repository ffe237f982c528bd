import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lessons } from '../../src/pop3/lessons.ts';

test('lessons add up, each login has its own, and the ones that were not asked for longest go first', () => {
  const lessons = new Lessons(3);
  assert.deepEqual(lessons.of('a'), {});
  lessons.learn('a', { method: 'USER' });
  lessons.learn('a', { utf8: true });
  assert.deepEqual(lessons.of('a'), { method: 'USER', utf8: true });
  for (const key of ['b', 'c']) lessons.learn(key, { utf8: true });
  lessons.of('a');
  lessons.learn('d', { method: 'PLAIN' });
  assert.deepEqual(lessons.of('b'), {});
  assert.deepEqual(lessons.of('a'), { method: 'USER', utf8: true });
});
