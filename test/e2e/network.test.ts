// Broken networks: every fault on every wire. A run ends within its limits, loses nothing, and the next one goes on.
// NETWORK_FAULTS=all adds those amid the login or the envelope (npm run test:crash does); npm test has those amid a message.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Clock } from '../support/clock.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import type { Fault, FaultProxy } from '../support/fault-proxy.ts';
import type { LogLine } from '../support/mailferry.ts';
import { assertNothingLost, assertRepeatsFlagged, assertUnchanged } from '../support/outside.ts';
import { hookIds, maildropIds, mails, smtpIds } from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';
import { startWiretap } from '../support/wiretap.ts';
import { oneDovecot, World } from '../support/world.ts';

const HOUR = 3_600_000;

const ALL = process.env['NETWORK_FAULTS'] === 'all';

type Wire = 'pop3' | 'smtp' | 'http';

/** How much of each conversation passes before the fault: amid the login or the envelope, and amid a message. */
const PLACES: Readonly<Record<Wire, readonly number[]>> = { pop3: [60, 1500], smtp: [30, 1000], http: [0, 1000] };

function faults(wire: Wire): Fault[] {
  const direction = wire === 'pop3' ? 'toClient' : 'toServer';
  const list: Fault[] = [{ kind: 'refuse' }];
  for (const kind of ['cut', 'reset', 'halfOpen', 'stall'] as const)
    for (const afterOctets of ALL ? PLACES[wire] : PLACES[wire].slice(1))
      list.push({ kind, after: afterOctets, direction });
  // What comes at a snail's pace is cut off by the time limit of the whole, or goes through.
  list.push({ kind: 'drip', octets: 100, every: 50, direction });
  // The reply to the last step never comes: in doubt.
  if (wire !== 'pop3') list.push({ kind: 'swallow', after: wire === 'smtp' ? 150 : 0, direction: 'toClient' });
  return list;
}

describe('broken networks', { skip: serversAvailable() ?? false, concurrency: 4 }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(6);
  });
  after(() => pop3.stop());

  for (const [index, wire] of (['pop3', 'smtp', 'http'] as const).entries()) {
    test(`every fault on the way to ${wire}`, { timeout: 240_000 }, async (t) => {
      const world = await World.open({ owner: t, pop3, user: `u${String(index + 1)}` });
      const clock = await Clock.of(world.mailferry);
      const targets = { pop3: pop3.port, smtp: world.inbox.port, http: world.hook.port };
      const proxy = await startFaultProxy(targets[wire], t);
      const port = (one: Wire): number => (one === wire ? proxy.port : targets[one]);
      await world.mailferry.configure(
        world.config({
          account: { port: port('pop3'), timeout: '1s' },
          inbox: { port: port('smtp'), timeout: '2s' },
          hook: { url: `http://127.0.0.1:${String(port('http'))}/inbound`, timeout: '2s' },
        }),
      );
      const sent: TestMail[] = [];
      const log: LogLine[] = [];
      for (const [number, fault] of faults(wire).entries()) {
        await t.test(JSON.stringify(fault), async () => {
          const fresh = mails(`${wire}${String(number)}`, 2, 2500);
          sent.push(...fresh);
          await world.put(fresh);
          await proxy.set(fault);
          const began = performance.now();
          const { code, stderr } = await world.mailferry.run('sync');
          log.push(...lines(stderr));
          assert.ok(performance.now() - began < 25_000, 'within its limits');
          assert.ok(code === 0 || code === 1 || code === 69, `exit code ${String(code)}: ${stderr}`);
          assert.doesNotMatch(stderr, /"code":"bug"|unexpected error/);
          const left = await maildropIds(pop3, world.user);
          if (code !== 0) assert.ok(left.length > 0, 'what is not delivered is kept');
          assertNothingLost(sent, left, hookIds(world.hook), smtpIds(world.inbox));
          await recover(world, proxy, clock, log);
        });
      }
      assertUnchanged(sent, world);
      const repeats = assertRepeatsFlagged(world, log);
      t.diagnostic(`${wire}: ${String(sent.length)} messages, ${String(repeats.length)} deliveries repeated`);
    });
  }

  test('every fault on the way to Redis, for a while', { timeout: 240_000 }, async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u4' });
    const proxy = await startFaultProxy(world.redisServer?.port ?? 0, t);
    await world.mailferry.configure(
      world.config({ root: { redis: { url: `redis://127.0.0.1:${String(proxy.port)}/0` } } }),
    );
    const worker = world.start();
    await worker.says('mailferry started');
    const sent: TestMail[] = [];
    const list: Fault[] = [
      { kind: 'cut', after: 0, direction: 'toServer' },
      { kind: 'reset', after: 0, direction: 'toServer' },
      { kind: 'stall', after: 0, direction: 'toServer' },
      { kind: 'swallow', after: 0, direction: 'toClient' },
      { kind: 'drip', octets: 500, every: 10, direction: 'toServer' },
      { kind: 'halfOpen', after: 0, direction: 'toServer' },
    ];
    for (const [number, fault] of list.entries()) {
      await t.test(JSON.stringify(fault), async () => {
        const fresh = mails(`redis${String(number)}`, 30, 2000);
        sent.push(...fresh);
        await world.put(fresh);
        const goal = world.hook.requests.length + 5;
        await world.pollNow();
        await until(() => world.hook.requests.length >= goal, { interval: 1, timeout: 40_000 });
        await proxy.set(fault);
        await sleep(1500);
        assertNothingLost(sent, await maildropIds(pop3, 'u4'), hookIds(world.hook), smtpIds(world.inbox));
        // Where octets were taken away, TCP would not go on with those behind them.
        if (fault.kind === 'swallow') proxy.resetAll();
        await proxy.set({ kind: 'none' });
        await until(async () => (await pop3.count('u4')) === 0, { timeout: 60_000, interval: 200, what: worker.noise });
      });
    }
    assertNothingLost(sent, [], hookIds(world.hook), smtpIds(world.inbox));
    assert.deepEqual(assertRepeatsFlagged(world, world.log), [], 'a Redis that is away repeats nothing');
    assert.deepEqual(
      worker.lines.filter(({ msg, code }) => msg === 'unexpected error' || code === 'bug'),
      [],
    );
    assert.equal(await worker.stop(), 0, worker.noise);
  });
});

test(
  'connections to Redis that went silent for ever are made anew',
  { skip: serversAvailable() ?? false, timeout: 90_000 },
  async (t) => {
    await using pop3 = await oneDovecot(1);
    const world = await World.open({ owner: t, pop3 });
    const tap = await startWiretap(world.redisServer?.port ?? 0, t);
    const url = `redis://127.0.0.1:${String(tap.port)}/0`;
    await world.mailferry.configure(world.config({ root: { redis: { url } } }));
    const worker = world.start();
    await worker.says('polled');
    // A host that vanished: nothing comes, not even an end. New connections find the one that took its place.
    const vanished = tap.connections;
    const never = new Promise<never>(() => undefined);
    tap.watch(({ connection }) => (connection <= vanished ? never : 'pass'));
    await world.put(mails('silent', 3));
    await until(async () => (await pop3.count('u1')) === 0, { timeout: 60_000, interval: 200, what: worker.noise });
    assert.equal(world.hook.accepted.length, 3);
    assert.equal(await worker.stop(), 0, worker.noise);
  },
);

/** Without the fault, and later: all that waits goes through. */
async function recover(world: World, proxy: FaultProxy, clock: Clock, log: LogLine[]): Promise<void> {
  await proxy.set({ kind: 'none' });
  await clock.advance(12 * HOUR);
  await world.expireLeases();
  const { code, stderr, stdout } = await world.mailferry.run('sync');
  log.push(...lines(stderr));
  assert.equal(code, 0, stdout + stderr);
  assert.equal(await world.pop3.count(world.user), 0, 'maildrop empty');
}

function lines(text: string): LogLine[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as LogLine);
}
