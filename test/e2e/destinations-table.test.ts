// Three destinations at a time, one of them failing at each step with each class: the others get all their mail at once, nothing
// is deleted, and once the fault is lifted every message reaches each destination: once, or again where that was said to be in doubt.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { stringify } from 'yaml';
import { openEngine } from '../../src/app.ts';
import type { Engine } from '../../src/app.ts';
import { loadConfig } from '../../src/config/load.ts';
import { ProcessEvents } from '../../src/ops/events.ts';
import { poll } from '../../src/sync/poll.ts';
import { released } from '../../src/sync/settle.ts';
import { DESTINATION_FAULTS } from '../support/destination-faults.ts';
import type { DestinationFault, Scene, Target } from '../support/destination-faults.ts';
import { startHttpSink } from '../support/http-sink.ts';
import { LineRelay } from '../support/line-relay.ts';
import type { LogLine } from '../support/mailferry.ts';
import { idOf, mails, tally } from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { redisAvailable, startRedis } from '../support/redis.ts';
import type { RunningRedis } from '../support/redis.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';
import { tempDir } from '../support/temp.ts';

const COUNT = 6;
const BACKOFF = { base: 20, cap: 100 };
const LIMIT = 15_000;

interface Row {
  readonly target: Target;
  readonly step: string;
  readonly fault: string;
  readonly arrivals: string;
  readonly inDoubt: number;
  readonly repeated: number;
  readonly paused: boolean;
  readonly quarantined: number;
  readonly seconds: string;
}

describe('three destinations, one of them failing', { skip: redisAvailable() ?? false, concurrency: 4 }, () => {
  let redis: RunningRedis;
  const rows: Row[] = [];
  before(async () => {
    redis = await startRedis();
  });
  after(async () => {
    await redis.stop();
    // oxlint-disable-next-line no-console
    if (process.env['SHOW_TABLE'] !== undefined) console.table(rows);
  });

  for (const [index, one] of DESTINATION_FAULTS.entries()) {
    test(`${one.target}: ${one.step}: ${one.fault}`, { timeout: 60_000 }, async (t) => {
      const row = await run(t, one, redis, String(index));
      rows.push(row);
      t.diagnostic(JSON.stringify(row));
    });
  }
});

async function run(t: TestContext, one: DestinationFault, redis: RunningRedis, name: string): Promise<Row> {
  const began = performance.now();
  const pop3 = await startPop3Server({}, t);
  const lmtp = one.target === 'lmtp';
  const smtp = await startSmtpSink({
    lmtp,
    without: ['PIPELINING'],
    ...(lmtp ? {} : { auth: { user: 'me', password: 'secret' } }),
  });
  t.after(() => smtp.close());
  const hook = await startHttpSink({ keep: 100_000 });
  t.after(() => hook.close());
  const relay = await LineRelay.start(smtp.port, t);
  let maildir = '';
  // Before the folder is removed.
  t.after(() => void (maildir === '' || spawnSync('umount', ['-l', maildir], { stdio: 'ignore' })));
  const dir = await tempDir(t);
  maildir = join(dir, 'Maildir');
  await mkdir(maildir);
  const lines: LogLine[] = [];
  const log = pino(
    { level: 'debug', base: {} },
    { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) },
  );
  const engine = await openEngine(
    await configOf(dir, name, { redis, pop3, relay, hook, lmtp, maildir }),
    new ProcessEvents(log),
    {
      deliveryBackoff: BACKOFF,
      breakerBackoff: BACKOFF,
    },
  );
  t.after(() => engine.close());
  const scene: Scene = { smtp, relay, hook, maildir, engine, lines, silently: [] };
  const sent = mails(`case${name}`, COUNT);
  const drop = pop3.drop();
  const lift = await one.apply(scene);
  drop.add(...sent.map(({ octets }) => octets));

  const others = (['mail', 'hook', 'maildir'] as const).filter((each) => each !== kindOf(one.target));
  await pollUntil(engine, name, async () => {
    const arrived = await arrivals(scene);
    const isTried = lines.some(({ msg }) => /^(delivery deferred|delivery in doubt|message quarantined)/.test(msg));
    return isTried && others.every((each) => new Set(arrived[each]).size === COUNT);
  });
  for (const each of others) assert.equal((await arrivals(scene))[each].length, COUNT, `all at ${each}, once`);
  const isForGood = !/^cut, |cut after|none within/.test(one.fault);
  if (isForGood) {
    assert.equal(drop.messages.length, COUNT, 'nothing is deleted');
    assert.equal((await arrivals(scene))[kindOf(one.target)].length, 0, 'nothing arrives where the fault is');
  }
  const quarantined = lines.filter(({ msg }) => msg.startsWith('message quarantined')).length;
  assert.equal(quarantined, one.needs === 'retry' ? COUNT : 0, 'quarantined');
  const paused = lines.some(({ msg }) => msg === 'destination paused');
  if (one.needs === 'person') {
    const pause = lines.find(({ msg }) => msg === 'destination paused');
    assert.ok(Date.parse(String(pause?.['until'])) > Date.now() + 60_000, 'asked again slowly');
  }

  await lift();
  if (one.needs === 'retry') await retryAll(engine, name);
  if (one.needs === 'person') await engine.tools.breakers.retry([...engine.config.destinations.keys()]);
  await pollUntil(engine, name, () => drop.messages.length === 0);
  const final = await arrivals(scene);
  const doubts = lines.filter(({ msg }) => msg.startsWith('delivery in doubt'));
  let repeated = 0;
  for (const ids of Object.values(final)) repeated += assertArrived(sent, ids, doubts.length);
  assert.equal(engine.tools.breakers.opensAt(`hook-${name}`), 0, 'nothing is left paused');
  return {
    target: one.target,
    step: one.step,
    fault: one.fault,
    arrivals: Object.values(final)
      .map((ids) => ids.length)
      .join('/'),
    inDoubt: doubts.length,
    repeated,
    paused,
    quarantined,
    seconds: ((performance.now() - began) / 1000).toFixed(1),
  };
}

/** Every message arrived; none again but for as many as were in doubt. @returns how many did */
function assertArrived(sent: readonly TestMail[], ids: readonly string[], doubts: number): number {
  const counts = tally(ids);
  assert.deepEqual(
    sent.filter(({ id }) => !counts.has(id)),
    [],
    'all arrived',
  );
  assert.equal(counts.size, sent.length, 'nothing else arrived');
  const repeated = ids.length - sent.length;
  assert.ok(repeated <= doubts, `${repeated} repeated, ${doubts} in doubt`);
  return repeated;
}

function kindOf(target: Target): 'mail' | 'hook' | 'maildir' {
  return target === 'webhook' ? 'hook' : target === 'maildir' ? 'maildir' : 'mail';
}

async function arrivals({
  smtp,
  hook,
  maildir,
  silently,
}: Scene): Promise<Record<'mail' | 'hook' | 'maildir', string[]>> {
  const files = await readdir(join(maildir, 'new')).catch(() => []);
  return {
    mail: [...smtp.messages.map(({ head }) => idOf(head)), ...silently],
    // read whole and not refused: it may have been taken
    hook: hook.requests.filter(({ status = 200 }) => status < 300).map(({ body }) => idOf(body ?? '')),
    maildir: await Promise.all(files.map(async (file) => idOf(await readFile(join(maildir, 'new', file))))),
  };
}

async function pollUntil(engine: Engine, name: string, isDone: () => boolean | Promise<boolean>): Promise<void> {
  const account = engine.config.accounts.get(`isp-${name}`);
  assert.ok(account);
  const end = performance.now() + LIMIT;
  while (!(await isDone())) {
    assert.ok(performance.now() < end, 'in time');
    const report = await poll(account, engine.tools, { force: true });
    assert.notEqual(report.outcome, 'failed');
    if ('background' in report) await report.background;
    await sleep(20);
  }
}

/** What `mailferry messages retry --all` does. */
async function retryAll(engine: Engine, name: string): Promise<void> {
  const hold = await engine.tools.holds.acquire(`isp-${name}`);
  assert.ok(hold);
  for (const entry of hold.ledger.openEntries()) {
    if (entry.state === 'quarantined') await hold.ledger.put(entry, released(entry));
  }
  hold.polling = false;
  await engine.tools.holds.release(hold);
}

async function configOf(
  dir: string,
  name: string,
  parts: Pick<Scene, 'relay' | 'hook' | 'maildir'> & { redis: RunningRedis; pop3: Pop3Server; lmtp: boolean },
): Promise<Engine['config']> {
  const { redis, pop3, relay, hook, lmtp, maildir } = parts;
  const place = { host: '127.0.0.1', port: relay.port, security: 'none' };
  const envelope = { to: ['me@example.com'], from: 'fwd@example.com' };
  const login = lmtp ? {} : { auth: { user: 'me', password: 'secret' } };
  const options = {
    dataDir: join(dir, 'data'),
    redis: { socket: redis.socket },
    destinations: {
      [`mail-${name}`]: { type: lmtp ? 'lmtp' : 'smtp', ...place, ...envelope, ...login, concurrency: 2 },
      [`hook-${name}`]: { type: 'webhook', url: hook.url, allowPrivate: true, concurrency: 2, timeout: '1s' },
      [`maildir-${name}`]: { type: 'maildir', path: maildir },
    },
    accounts: {
      [`isp-${name}`]: {
        host: '127.0.0.1',
        port: pop3.port,
        security: 'none',
        user: 'jane',
        password: 'secret',
        deliverTo: [`mail-${name}`, `hook-${name}`, `maildir-${name}`],
      },
    },
  };
  await writeFile(join(dir, 'mailferry.yaml'), stringify(options), { mode: 0o600 });
  const { config, problems } = await loadConfig('mailferry.yaml', process.env, dir);
  assert.ok(config, JSON.stringify(problems));
  return config;
}
