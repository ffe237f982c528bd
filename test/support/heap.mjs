/**
 * Loaded into the program under test (`--import`): every ten seconds it collects its garbage and adds a line to the file
 * MAILFERRY_TEST_HEAP, its process id and the megabytes that are still in use. Needs `--expose-gc`, which a worker gives itself.
 */

import { appendFileSync } from 'node:fs';

const file = process.env.MAILFERRY_TEST_HEAP ?? '';
if (globalThis.gc)
  setInterval(() => {
    globalThis.gc();
    const { heapUsed, external } = process.memoryUsage();
    appendFileSync(file, `${process.pid} ${((heapUsed + external) / 1024 / 1024).toFixed(2)}\n`);
  }, 10_000).unref();
