// How much of a maildrop is on its way at a time: as much as keeps the destinations busy, and no more. The real process
// against the scriptable server.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startHttpSink } from '../support/http-sink.ts';
import type { HttpSink } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';
import { mails } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import type { Owner } from '../support/temp.ts';
import { until } from '../support/wait.ts';
import { startWiretap } from '../support/wiretap.ts';

const MESSAGES = 200;
/** Deliveries at a time. */
const PARALLEL = 5;
/** Messages on their way at first. */
const AT_FIRST = 32;

interface Place {
  readonly server: Pop3Server;
  readonly hook: HttpSink;
  readonly mailferry: Mailferry;
  /** Messages that were asked for so far. */
  readonly asked: () => number;
}

async function placeFor(t: Owner): Promise<Place> {
  const server = await startPop3Server({ users: { jane: 'secret' } }, t);
  server.drop().add(...mails('mail', MESSAGES, 500).map(({ octets }) => octets));
  const hook = await startHttpSink();
  t.after(() => hook.close());
  const tap = await startWiretap(server.port, t);
  let asked = 0;
  tap.watch(({ direction, text }) => {
    if (direction === 'toServer') asked += text.match(/^RETR /gm)?.length ?? 0;
    return 'pass';
  });
  const { host, port } = tap;
  const mailferry = await Mailferry.create(t, {
    destinations: { hook: { type: 'webhook', url: hook.url, allowPrivate: true, concurrency: PARALLEL } },
    accounts: { jane: { host, port, security: 'none', user: 'jane', password: 'secret', deliverTo: ['hook'] } },
  });
  t.after(() => mailferry.endRedis());
  return { server, hook, mailferry, asked: () => asked };
}

describe('messages on their way', { skip: redisAvailable() ?? false, timeout: 60_000, concurrency: 2 }, () => {
  test('are few where a destination holds everything up, and none is left behind', async (t) => {
    const { server, hook, mailferry, asked } = await placeFor(t);
    const released = Promise.withResolvers<undefined>();
    let held = 0;
    hook.when({
      action: async () => {
        held += 1;
        return await released.promise;
      },
    });
    const run = mailferry.run('sync');
    await until(() => held === PARALLEL && server.drop().retrieved.size >= AT_FIRST, { what: 'a full window' });
    assert.equal(asked(), AT_FIRST);
    released.resolve(undefined);
    assert.equal((await run).code, 0);
    assert.equal(server.drop().messages.length, 0);
    assert.equal(hook.accepted.length, MESSAGES);
  });

  test('are as many as may be where the server wants time between logins', async (t) => {
    const { server, hook, mailferry, asked } = await placeFor(t);
    server.behaviour.loginDelay = 60;
    const released = Promise.withResolvers<undefined>();
    hook.when({ action: async () => await released.promise });
    const run = mailferry.run('sync');
    await until(() => server.drop().retrieved.size >= 128, { what: 'a full window', timeout: 30_000 });
    assert.equal(asked(), 128);
    released.resolve(undefined);
    await run;
    assert.equal(hook.accepted.length, MESSAGES);
  });

  test('are more where the destination would wait for them', async (t) => {
    const { server, hook, mailferry, asked } = await placeFor(t);
    // What follows it waits behind it: nothing arrives, what has arrived is delivered soon.
    server.rule({ on: /^RETR 20$/, delay: 5000 });
    const run = mailferry.run('sync');
    await until(() => server.drop().retrieved.size > 0, { what: 'the first message', timeout: 30_000 });
    await until(() => asked() >= 100, { what: 'a wide window', timeout: 4000 });
    assert.ok(server.drop().retrieved.size <= 20, String(server.drop().retrieved.size));
    assert.equal((await run).code, 0);
    assert.equal(hook.accepted.length, MESSAGES);
  });
});
