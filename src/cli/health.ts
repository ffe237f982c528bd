/** `health`: for a container's health check. Starts nothing and connects to nothing. */

import { readHealth } from '../ops/heartbeat.ts';
import { EXIT, usableConfig } from './command.ts';
import type { Command } from './command.ts';

export const health: Command = {
  name: 'health',
  usage: '',
  summary: 'exits 0 if a worker runs here and is well',
  options: {},
  async run(_words, _options, context) {
    const { dataDir } = await usableConfig({ ...context, warn: () => undefined });
    const problem = await readHealth(dataDir, Date.now());
    context.print(context.json ? JSON.stringify({ healthy: problem === undefined, problem }) : (problem ?? 'healthy'));
    return problem === undefined ? EXIT.done : EXIT.undelivered;
  },
};
