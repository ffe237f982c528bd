// First in, first out: the same as an array, whatever is done to it.

import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { Fifo } from '../../src/pop3/fifo.ts';

test('a fifo is what an array is', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -1500, max: 1500 }), { maxLength: 30 }), (steps) => {
      const fifo = new Fifo<number>();
      let array: number[] = [];
      let next = 0;
      for (const step of steps) {
        for (let count = 0; count < Math.abs(step); count += 1) {
          if (step > 0) {
            fifo.push((next += 1));
            array.push(next);
          } else if (count < 600) assert.equal(fifo.shift(), array.shift());
        }
        assert.deepEqual([fifo.length, fifo.first], [array.length, array[0]]);
        if (step === 0) {
          assert.deepEqual(fifo.drain(), array);
          array = [];
        }
      }
    }),
    { numRuns: 50 },
  );
});
