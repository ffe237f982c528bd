// QUIT that fails undoes every delete. The next poll deletes what is confirmed, without retrieving or delivering it again.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { mails } from '../support/outside.ts';
import { serversAvailable } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { startWiretap } from '../support/wiretap.ts';
import type { Verdict } from '../support/wiretap.ts';
import { oneDovecot, World } from '../support/world.ts';

const COUNT = 10;

describe('a session that QUIT does not end well', { skip: serversAvailable() ?? false }, () => {
  let pop3: RunningServer;
  before(async () => {
    pop3 = await oneDovecot(3);
  });
  after(() => pop3.stop());

  const cases: readonly [what: string, user: string, verdict: Verdict, atReply: boolean, left: number][] = [
    ['QUIT answered -ERR', 'u1', { answer: '-ERR some deleted messages not removed\r\n' }, false, COUNT],
    ['connection cut before QUIT arrives', 'u2', 'cut', false, COUNT],
    ['connection cut before the reply to QUIT', 'u3', 'cut', true, 0],
  ];
  for (const [what, user, verdict, atReply, left] of cases) {
    test(what, async (t) => {
      const world = await World.open({ owner: t, pop3, user });
      const tap = await startWiretap(pop3.port, t);
      await world.mailferry.configure(world.config({ account: { port: tap.port } }));
      await world.put(mails(user, COUNT));
      const seen: string[] = [];
      let quit = false;
      tap.watch(({ direction, text }) => {
        if (direction === 'toServer') seen.push(...text.split('\r\n'));
        const isQuit = direction === 'toServer' && /^QUIT/m.test(text);
        if (atReply ? quit && direction === 'toClient' : isQuit) return verdict;
        quit ||= isQuit;
        return 'pass';
      });
      const first = await world.mailferry.run('sync');
      assert.match(first.stderr, /deletes not committed: they will be sent again/);
      assert.equal(await pop3.count(user), left);
      assert.equal(seen.filter((line) => line.startsWith('DELE')).length, COUNT);

      seen.length = 0;
      tap.watch(({ direction, text }) => {
        if (direction === 'toServer') seen.push(...text.split('\r\n'));
        return 'pass';
      });
      const second = await world.mailferry.run('sync');
      assert.equal(second.code, 0, second.stderr);
      assert.equal(await pop3.count(user), 0);
      assert.deepEqual(
        seen.filter((line) => line.startsWith('RETR')),
        [],
        'not retrieved again',
      );
      assert.equal(seen.filter((line) => line.startsWith('DELE')).length, left);
      assert.equal(world.hook.accepted.length, COUNT, 'not delivered again');
      assert.equal(world.inbox.messages.length, COUNT, 'not delivered again');
      const [status] = await world.mailferry.json<{ state: string }[]>('status');
      assert.equal(status?.state, 'ok');
    });
  }
});
