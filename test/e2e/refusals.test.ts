// A destination that refuses one message for good, or for now: the others go through, and nothing refused is deleted.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Clock } from '../support/clock.ts';
import { hookIds, mail, maildropIds, mails, smtpIds } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { oneDovecot, World } from '../support/world.ts';

const MINUTE = 60_000;

interface Listed {
  readonly uniqueId: string;
  readonly state: string;
  readonly deliveries: Readonly<Record<string, { state: string; said: string; attempt: number; next: number }>>;
}

describe('a destination refuses', { skip: serversAvailable() ?? false }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(4);
  });
  after(() => pop3.stop());

  test('5xx at RCPT and at the end of DATA: quarantined, until a person retries', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u1' });
    const others = mails('fine', 20);
    const bad = mail('refused');
    await world.put([...others.slice(0, 10), bad, ...others.slice(10)]);
    const lift = [
      world.inbox.when({
        stage: 'end',
        if: ({ head }) => head.includes('Subject: refused'),
        action: { reply: [554, '5.7.1 looks like spam'] },
      }),
      world.inbox.when({ stage: 'rcpt', times: 1, action: { reply: [550, '5.1.1 no such user'] } }),
    ];
    assert.equal((await world.mailferry.run('sync')).code, 1, 'something is not delivered');
    assert.equal(world.inbox.messages.length, 19, 'all but the two refused');
    assert.equal(world.hook.accepted.length, 21, 'the other destination has all');
    const left = await maildropIds(pop3, 'u1');
    assert.equal(left.length, 2, 'refused ones stay on the server');
    assert.ok(left.includes(bad.id));

    const [status] = await world.mailferry.json<{ state: string; quarantined: number; remedy: string }[]>('status');
    assert.equal(status?.quarantined, 2);
    assert.equal(status.state, 'needs a person');
    assert.match(status.remedy, /messages list isp/);
    const listed = await world.mailferry.json<Listed[]>('messages', 'list', 'isp');
    assert.deepEqual(
      listed.map(({ state }) => state),
      ['quarantined', 'quarantined'],
    );
    const said = listed.map(({ deliveries }) => deliveries['inbox']?.said ?? '').sort();
    assert.match(said[0] ?? '', /5\.1\.1 no such user/);
    assert.match(said[1] ?? '', /5\.7\.1 looks like spam/);
    const shown = await world.mailferry.run('messages', 'show', 'isp', listed[0]?.uniqueId ?? '');
    assert.equal(shown.code, 0);
    assert.match(shown.stdout, /quarantined/);

    // They are not tried again by themselves.
    await world.mailferry.run('sync');
    assert.equal(world.hook.accepted.length, 21);
    assert.equal(world.inbox.messages.length, 19);

    for (const end of lift) end();
    assert.equal((await world.mailferry.run('messages', 'retry', 'isp', '--all')).code, 0);
    const { code, stderr } = await world.mailferry.run('sync');
    assert.equal(code, 0, stderr);
    assert.equal(await pop3.count('u1'), 0);
    assert.equal(new Set(smtpIds(world.inbox)).size, 21);
    assert.equal(world.inbox.messages.length, 21, 'no repeat by SMTP');
    assert.equal(world.hook.accepted.length, 21, 'no repeat at the webhook');
    const [after_] = await world.mailferry.json<{ state: string; quarantined: number }[]>('status');
    assert.equal(after_?.quarantined, 0);
    assert.equal(after_.state, 'ok');
  });

  test('discard deletes without delivery', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u2' });
    await world.put([mail('junk'), mail('good')]);
    world.inbox.when({
      stage: 'end',
      if: ({ head }) => head.includes('Subject: junk'),
      action: { reply: [554, '5.7.1 no'] },
    });
    assert.equal((await world.mailferry.run('sync')).code, 1);
    const [listed] = await world.mailferry.json<Listed[]>('messages', 'list', 'isp');
    assert.equal((await world.mailferry.run('messages', 'discard', 'isp', listed?.uniqueId ?? '')).code, 0);
    assert.equal(await pop3.count('u2'), 1, 'only the next poll deletes');
    assert.equal((await world.mailferry.run('sync')).code, 0);
    assert.equal(await pop3.count('u2'), 0);
    assert.deepEqual(smtpIds(world.inbox), [mail('good').id]);
  });

  test('4xx: tried again after a backoff that restarts do not shorten', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u3' });
    const clock = await Clock.of(world.mailferry);
    await world.put([mail('slow'), mail('fast')]);
    let attempts = 0;
    const lift = world.inbox.when({
      stage: 'end',
      if: ({ head }) => head.includes('Subject: slow'),
      action: () => {
        attempts += 1;
        return Promise.resolve({ reply: [451, '4.7.1 greylisted'] as const });
      },
    });
    assert.equal((await world.mailferry.run('sync')).code, 1);
    assert.equal(attempts, 1);
    assert.deepEqual(await maildropIds(pop3, 'u3'), [mail('slow').id]);
    assert.equal((await world.mailferry.run('sync')).code, 1);
    assert.equal(attempts, 1, 'not before its time');
    const [listed] = await world.mailferry.json<Listed[]>('messages', 'list', 'isp');
    const delivery = listed?.deliveries['inbox'];
    assert.equal(delivery?.state, 'deferred');
    assert.match(delivery.said, /4\.7\.1 greylisted/);
    assert.ok(delivery.next <= Date.now() + MINUTE, 'within a minute, and not at once');

    await clock.advance(MINUTE);
    await world.mailferry.run('sync');
    assert.equal(attempts, 2);
    // The second wait may be twice as long.
    await clock.advance(2 * MINUTE);
    lift();
    assert.equal((await world.mailferry.run('sync')).code, 0);
    assert.equal(await pop3.count('u3'), 0);
    assert.equal(world.inbox.messages.length, 2);
    assert.equal(world.hook.accepted.length, 2, 'never again to who has confirmed');
  });

  test('Retry-After is respected; given up after giveUpAfter, and kept', async (t) => {
    const world = await World.open({ owner: t, pop3, user: 'u4', account: { giveUpAfter: '1h', deliverTo: ['hook'] } });
    const clock = await Clock.of(world.mailferry);
    await world.put([mail('patient')]);
    world.hook.when({ action: { status: 429, headers: { 'retry-after': '2400' } } });
    for (const [minutes, attempts] of [
      [0, 1],
      [20, 1],
      [21, 2],
      [41, 3],
    ] as const) {
      await clock.advance(minutes * MINUTE);
      await world.mailferry.run('sync');
      assert.equal(world.hook.requests.length, attempts, `after ${String(minutes)} more minutes`);
    }
    const [listed] = await world.mailferry.json<Listed[]>('messages', 'list', 'isp');
    assert.equal(listed?.state, 'quarantined');
    assert.match(listed.deliveries['hook']?.said ?? '', /given up/);
    assert.equal(await pop3.count('u4'), 1);
    assert.deepEqual(hookIds(world.hook), []);
  });
});
