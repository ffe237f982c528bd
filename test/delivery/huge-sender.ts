/** Delivers one message of 200 MB in a process of its own, and prints how much memory that took. For `huge.test.ts`. */

import type { DestinationConfig } from '../../src/config/types.ts';
import { openDestination } from '../../src/delivery/open.ts';
import { deliveryOf, hugeMessage } from '../support/stored.ts';

const [kind = '', place = ''] = process.argv.slice(2);
const common = {
  name: 'huge',
  concurrency: 1,
  timeout: 60_000,
  tls: { caFile: undefined, fingerprint: undefined, serverName: undefined, certFile: undefined, keyFile: undefined },
};
const secret = { reveal: () => Promise.resolve(`whsec_${Buffer.alloc(32, 7).toString('base64')}`) };
const config: DestinationConfig =
  kind === 'smtp'
    ? {
        ...common,
        type: 'smtp',
        host: '127.0.0.1',
        port: Number(place),
        security: 'none',
        auth: undefined,
        to: ['me@example.net'],
        from: { kind: 'original' },
        trace: true,
        helo: undefined,
      }
    : { ...common, type: 'webhook', url: place, secret, format: 'raw', headers: {}, allowPrivate: true };

const destination = openDestination(config, { hostName: 'ferry.test', now: () => new Date() });
const message = hugeMessage(200_000_000);
const before = process.memoryUsage.rss();
const start = performance.now();
const outcome = await destination.deliver(deliveryOf(message));
const milliseconds = Math.round(performance.now() - start);
await destination.close();
const peak = process.resourceUsage().maxRSS * 1024;
console.log(
  JSON.stringify({ kind: outcome.kind, said: outcome.said, sha256: message.sha256, before, peak, milliseconds }),
);
