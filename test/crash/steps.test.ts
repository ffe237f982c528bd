// kill -9 at every step of a message's way: before a command or reply passes, and after the server has got it. The wire
// itself says when. CRASH_STEPS sets how many further crashes at steps drawn at random follow (npm run test:crash: 1000).

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { seeded } from '../support/corpus.ts';
import {
  assertNothingLost,
  assertRepeatsFlagged,
  assertUnchanged,
  hookIds,
  maildropIds,
  mails,
  smtpIds,
} from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import type { LogLine } from '../support/mailferry.ts';
import { serversAvailable } from '../support/servers.ts';
import { startWiretap } from '../support/wiretap.ts';
import type { Piece, Wiretap } from '../support/wiretap.ts';
import { oneDovecot, World } from '../support/world.ts';

type Wire = 'pop3' | 'smtp' | 'http' | 'redis';

interface Step {
  readonly on: Wire;
  readonly direction: Piece['direction'];
  readonly match: RegExp;
  /** For replies: what must have passed on this connection before, and not been answered. */
  readonly to?: RegExp;
  /** Which of several; default the first. */
  readonly nth?: number;
}

/** A command, before and after the server gets it, and its reply. */
function around(on: Wire, name: string, match: RegExp): [name: string, step: Step, then: 'cut' | 'pass'][] {
  return [
    [`${name}, before the server gets it`, { on, direction: 'toServer', match }, 'cut'],
    [`${name}, its reply unread`, { on, direction: 'toClient', match: /./s, to: match }, 'cut'],
  ];
}

const STEPS: [name: string, step: Step, then: 'cut' | 'pass'][] = [
  ...around('pop3', 'PASS', /^(PASS|AUTH) /m),
  ...around('pop3', 'UIDL', /^UIDL/m),
  ...around('pop3', 'RETR', /^RETR /m),
  ...around('pop3', 'DELE', /^DELE /m),
  ...around('pop3', 'QUIT', /^QUIT/m),
  ['QUIT, passed on', { on: 'pop3', direction: 'toServer', match: /^QUIT/m }, 'pass'],
  ['DELE, passed on', { on: 'pop3', direction: 'toServer', match: /^DELE /m }, 'pass'],
  ...around('smtp', 'MAIL', /^MAIL FROM/m),
  ...around('smtp', 'RCPT', /^RCPT TO/m),
  ...around('smtp', 'DATA', /^DATA/m),
  ...around('smtp', 'final dot', /\r\n\.\r\n$/),
  ['final dot, passed on', { on: 'smtp', direction: 'toServer', match: /\r\n\.\r\n$/ }, 'pass'],
  ...around('http', 'POST', /^POST /),
  ['POST, passed on', { on: 'http', direction: 'toServer', match: /^POST / }, 'pass'],
  ...Array.from({ length: 5 }, (_, index) => scripts(index + 1)).flat(),
];

/** The n-th script that runs in Redis: the lease, then the ledger's writes. */
function scripts(nth: number): typeof STEPS {
  const match = /evalsha/i;
  return [
    [`script ${String(nth)}, before Redis gets it`, { on: 'redis', direction: 'toServer', match, nth }, 'cut'],
    [
      `script ${String(nth)}, its reply unread`,
      { on: 'redis', direction: 'toClient', match: /./s, to: match, nth },
      'cut',
    ],
  ];
}

/** Says when a step is reached. */
function watchFor(step: Step): (wire: Wire, piece: Piece) => boolean {
  let left = step.nth ?? 1;
  const asked = new Set<number>();
  return (wire, { direction, text, connection }) => {
    if (wire !== step.on) return false;
    const asks = step.to?.test(text) === true && direction === 'toServer';
    if (asks) asked.add(connection);
    if (direction !== step.direction || !step.match.test(text)) return false;
    if (step.to !== undefined && !asked.delete(connection)) return false;
    left -= 1;
    return left === 0;
  };
}

test('killed at every step of the way', { skip: serversAvailable() ?? false, timeout: 3_600_000 }, async (t) => {
  await using pop3 = await oneDovecot(1);
  const world = await World.open({ owner: t, pop3 });
  const taps: Record<Wire, Wiretap> = {
    pop3: await startWiretap(pop3.port, t),
    smtp: await startWiretap(world.inbox.port, t),
    http: await startWiretap(world.hook.port, t),
    redis: await startWiretap(world.redisServer?.socket ?? '', t),
  };
  await world.mailferry.configure(
    world.config({
      account: { port: taps.pop3.port },
      inbox: { port: taps.smtp.port },
      hook: { url: `http://127.0.0.1:${String(taps.http.port)}/inbound` },
      root: { redis: { url: `redis://127.0.0.1:${String(taps.redis.port)}/0` } },
    }),
  );
  const sent: TestMail[] = [];
  const log: LogLine[] = [];

  const extra = Number(process.env['CRASH_STEPS'] ?? 0);
  const random = seeded(Number(process.env['CRASH_SEED'] ?? 1));
  const drawn = Array.from({ length: extra }, (): (typeof STEPS)[number] => {
    const [name, step, then] = STEPS[Math.floor(random() * STEPS.length)] as (typeof STEPS)[number];
    return [name, { ...step, nth: (step.nth ?? 1) + Math.floor(random() * 3) }, then];
  });
  let crashes = 0;
  for (const [index, [name, step, then]] of [...STEPS, ...drawn].entries()) {
    const fresh = mails(`step${String(index)}`, 2, 300 + Math.floor(random() * 3000));
    sent.push(...fresh);
    await world.put(fresh);
    const child = world.mailferry.spawn(['sync']);
    const exited = once(child, 'exit');
    if (child.stderr) createInterface({ input: child.stderr }).on('line', (line) => log.push(...lines(line)));
    const isReached = watchFor(step);
    let killed = false;
    for (const wire of ['pop3', 'smtp', 'http', 'redis'] as const) {
      taps[wire].watch(async (piece) => {
        if (killed || !isReached(wire, piece)) return 'pass';
        killed = true;
        child.kill('SIGKILL');
        await exited;
        return then;
      });
    }
    await exited;
    // Steps drawn at random may lie beyond the end of a run.
    if (index < STEPS.length) assert.ok(killed, `${name}: never reached`);
    crashes += killed ? 1 : 0;
    await world.expireLeases();
    const left = await maildropIds(pop3, 'u1');
    assertNothingLost(sent, left, hookIds(world.hook), smtpIds(world.inbox));
  }
  for (const tap of Object.values(taps)) tap.watch(() => 'pass');

  const { code, stderr } = await world.mailferry.run('sync');
  log.push(...lines(stderr));
  assert.equal(code, 0, stderr);
  assert.equal(await pop3.count('u1'), 0, 'maildrop empty');
  assertNothingLost(sent, [], hookIds(world.hook), smtpIds(world.inbox));
  assertUnchanged(sent, world);
  const repeats = assertRepeatsFlagged(world, log);
  t.diagnostic(
    `${String(crashes)} crashes, ${String(sent.length)} messages, ${String(repeats.length)} deliveries repeated`,
  );
});

/** Whole lines of the log. */
function lines(text: string): LogLine[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as LogLine);
}
