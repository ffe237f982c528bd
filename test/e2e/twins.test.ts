// Servers that give different messages one unique-id: every message arrives once, whole, and is deleted only then.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sha256 } from '../support/pop3-maildrop.ts';
import { Pop3Client } from '../../src/pop3/client.ts';
import { serversAvailable, startServer } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';

/** What a server adds to the end of each message that it hands out. */
const SERVERS = { popa3d: '', 'solid-pop3d': '\r\n' } as const;
const DATE = 'Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n';

/** Three messages a round that are all different, with unique-ids that other messages of this and of the other rounds have too. */
function round(number: number): string[] {
  const id = String(number);
  return [
    // one header for all of them, and bodies of one size
    `From: a@b.example\r\nSubject: report\r\n${DATE}\r\nnumber ${id}\r\n`,
    `From: a@b.example\r\nSubject: report\r\n${DATE}\r\nletter ${'abcd'.charAt(number)}\r\n`,
    // popa3d looks at the Message-ID alone here, Solid at Date and Subject
    `From: ${id}@b.example\r\nSubject: report\r\n${DATE}Message-ID: <same@b.example>\r\n\r\nby somebody else\r\n`,
  ];
}

/** The very same octets each time, under those unique-ids too: while copies lie side by side, each is a message. */
const COPY = `From: c@b.example\r\nSubject: report\r\n${DATE}Message-ID: <same@b.example>\r\n\r\nas before\r\n`;

interface Listed {
  readonly uniqueIds: ReadonlySet<string | undefined>;
  readonly hashes: readonly string[];
}

/** What lies there. */
async function lookInto(server: RunningServer, user: string): Promise<Listed> {
  const password = (): Promise<string> => Promise.resolve(user.replace('u', 'p'));
  const { host, port } = server;
  const client = await Pop3Client.open({ host, port, security: 'none', user, password, timeout: 15_000 });
  const { entries } = await client.listing();
  const hashes: string[] = [];
  for (const { messageNumber } of entries) {
    const pieces: Buffer[] = [];
    await client.retrieve(messageNumber, { write: (piece) => void pieces.push(piece) });
    hashes.push(sha256(Buffer.concat(pieces)));
  }
  await client.quit();
  return { uniqueIds: new Set(entries.map(({ uniqueId }) => uniqueId)), hashes: hashes.toSorted() };
}

for (const [name, tail] of Object.entries(SERVERS) as [keyof typeof SERVERS, string][]) {
  describe(name, { skip: serversAvailable() ?? false, timeout: 120_000, concurrency: 2 }, () => {
    const expected = (sent: readonly string[]): string[] =>
      sent.map((text) => sha256(Buffer.from(text + tail))).toSorted();
    const assertArrived = (world: World, sent: readonly string[], when: string): void => {
      assert.deepEqual(
        world.hook.accepted.map((request) => request.sha256).toSorted(),
        expected(sent),
        `webhook, ${when}`,
      );
      const bySmtp = world.inbox.messages.map(({ sha256BelowTrace }) => sha256BelowTrace).toSorted();
      assert.deepEqual(bySmtp, expected(sent), `SMTP, ${when}`);
    };

    test('kept: each message once over all polls; later, of all those twins the right ones are deleted', async (t) => {
      await using pop3 = await startServer(name, { users: 1 });
      const world = await World.open({ owner: t, pop3, account: { retention: 'keep' } });
      const sent: string[] = [];
      for (const number of [0, 1, 2]) {
        const messages = [...round(number), COPY];
        await pop3.deliver(
          'u1',
          messages.map((text) => Buffer.from(text)),
        );
        sent.push(...messages);
        // the second poll of a round finds nothing new
        for (const poll of number === 1 ? [1, 2] : [1]) {
          const { code, stderr } = await world.mailferry.run('sync');
          assert.equal(code, 0, stderr);
          assertArrived(world, sent, `round ${String(number)}, poll ${String(poll)}`);
        }
        assert.equal(await pop3.count('u1'), sent.length);
      }
      const { uniqueIds } = await lookInto(pop3, 'u1');
      assert(uniqueIds.size <= 2, `${String(uniqueIds.size)} unique-ids for 12 messages`);

      // what was kept stays; of the others none stays, and no kept twin goes in its place
      await world.mailferry.configure(world.config());
      const last = round(3);
      await pop3.deliver(
        'u1',
        last.map((text) => Buffer.from(text)),
      );
      const { code, stderr } = await world.mailferry.run('sync');
      assert.equal(code, 0, stderr);
      assertArrived(world, [...sent, ...last], 'at the end');
      assert.deepEqual((await lookInto(pop3, 'u1')).hashes, expected(sent));
    });

    test('deleted: a message that comes under the unique-id of a deleted one is delivered too', async (t) => {
      await using pop3 = await startServer(name, { users: 1 });
      const world = await World.open({ owner: t, pop3 });
      const worker = world.start();
      const sent: string[] = [];
      for (const number of [0, 1, 2]) {
        const messages = round(number);
        await pop3.deliver(
          'u1',
          messages.map((text) => Buffer.from(text)),
        );
        sent.push(...messages);
        await worker.says('mailferry started');
        await world.pollNow();
        await until(async () => (await pop3.count('u1')) === 0, { timeout: 40_000, what: `round ${String(number)}` });
        assertArrived(world, sent, `round ${String(number)}`);
      }
      assert.equal(await worker.stop(), 0, worker.noise);
      assertArrived(world, sent, 'at the end');
    });
  });
}
