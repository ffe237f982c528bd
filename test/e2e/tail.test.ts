// A maildrop that keeps its mail: what a poll asks for is in proportion to what is new, and whatever is unclear is listed whole.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { sha256 } from '../support/pop3-maildrop.ts';
import type { Maildrop } from '../support/pop3-maildrop.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import { startHttpSink } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';

const KEPT = 50;

function mail(number: number): string {
  return `From: a@b.example\r\nMessage-ID: <${String(number)}@b.example>\r\n\r\nnumber ${String(number)}\r\n`;
}

suite('the end of a maildrop', { concurrency: 2 }, () => {
  const cases: readonly [what: string, change: (drop: Maildrop) => void, commands: RegExp, arrived: number][] = [
    ['nothing new', () => undefined, /^STAT UIDL 50 QUIT$/, 0],
    [
      'new mail at the end',
      (drop) => void drop.add(mail(100), mail(101)),
      /^STAT UIDL 50 UIDL 51 LIST 51 UIDL 52 LIST 52 RETR 51 RETR 52 QUIT$/,
      2,
    ],
    [
      'the last one deleted by somebody else, and a new one',
      (drop) => {
        drop.messages.pop();
        drop.add(mail(100));
      },
      /^STAT UIDL 50 STAT UIDL LIST RETR 50 QUIT$/,
      1,
    ],
    [
      'one in the middle deleted, and two new ones',
      (drop) => {
        drop.messages.splice(10, 1);
        drop.add(mail(100), mail(101));
      },
      /^STAT UIDL 50 STAT UIDL LIST RETR 50 RETR 51 QUIT$/,
      2,
    ],
    [
      'two in the middle replaced by one larger, which only the sum shows',
      (drop) => {
        const [first, second] = drop.messages.splice(10, 2);
        const octets = `${mail(100)}${'x'.repeat(500)}\r\n`;
        drop.messages.splice(10, 0, { octets: Buffer.from(octets), uniqueId: 'other', size: octets.length });
        assert(first && second);
        const last = drop.messages.pop();
        assert(last);
        drop.add(mail(101));
        drop.messages.push(last);
        drop.add(mail(102));
      },
      /^STAT UIDL 50 UIDL 51 LIST 51 STAT UIDL LIST RETR 11 RETR 49 RETR 51 QUIT$/,
      3,
    ],
    [
      'a new one with the unique-id of one that is known',
      (drop) => void drop.add({ octets: mail(100), uniqueId: 'uid-000003' }),
      /^STAT UIDL 50 UIDL 51 LIST 51 STAT UIDL LIST /,
      1,
    ],
    ['a new one that LIST does not know', (drop) => void drop.add({ octets: mail(100), uniqueId: 'odd' }), /./, 1],
  ];
  for (const [what, change, commands, arrived] of cases) {
    test(what, async (t) => {
      const pop3 = await startPop3Server({}, t);
      const hook = await startHttpSink();
      t.after(() => hook.close());
      const drop = pop3.drop();
      drop.add(...Array.from({ length: KEPT }, (_, number) => mail(number)));
      const mailferry = await Mailferry.create(t, {
        destinations: { hook: { type: 'webhook', url: hook.url, allowPrivate: true } },
        accounts: {
          isp: {
            host: '127.0.0.1',
            port: pop3.port,
            security: 'none',
            user: 'jane',
            password: 'secret',
            deliverTo: ['hook'],
            firstPoll: 'deliver',
            retention: 'keep',
          },
        },
      });
      const first = await mailferry.run('sync');
      assert.equal(first.code, 0, first.stderr);
      assert.equal(hook.accepted.length, KEPT);
      const before = new Set(drop.messages);
      change(drop);
      if (what.includes('LIST')) pop3.rule({ on: /^LIST 51/, times: 1, reply: '-ERR no such message' });
      const fresh = drop.messages.filter((message) => !before.has(message)).map(({ octets }) => sha256(octets));
      assert.equal(fresh.length, arrived);

      const { code, stderr } = await mailferry.run('sync');
      assert.equal(code, 0, stderr);
      const sent = pop3.sessions.at(-1)?.commands.filter((line) => /^(STAT|UIDL|LIST|RETR|DELE|QUIT)/.test(line));
      assert.match(sent?.join(' ') ?? '', commands);
      assert.deepEqual(
        hook.accepted
          .slice(KEPT)
          .map((request) => request.sha256)
          .toSorted(),
        fresh.toSorted(),
      );

      // and what was found is as well known as what a whole listing shows
      assert.equal((await mailferry.run('sync')).code, 0);
      assert.equal(hook.accepted.length, KEPT + arrived, 'nothing twice');
    });
  }
});
