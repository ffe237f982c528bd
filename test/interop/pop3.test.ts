// One suite of behaviours against every real server: what the client must do whatever the server does. Logins: login.test.ts.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import test, { suite } from 'node:test';
import { inspect } from 'node:util';
import { Pop3Client } from '../../src/pop3/client.ts';
import type { Pop3Options } from '../../src/pop3/client.ts';
import { corpus } from '../support/corpus.ts';
import type { CorpusMessage } from '../support/corpus.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { sha256 } from '../support/pop3-maildrop.ts';
import { POP3_SERVERS, serversAvailable, startServer } from '../support/servers.ts';
import type { Pop3ServerName, RunningServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

/** What a server does to a message before it hands it out. */
const CHANGES: Readonly<Record<Pop3ServerName, (octets: Buffer) => Buffer>> = {
  dovecot: (octets) => octets,
  courier: (octets) => octets,
  popa3d: (octets) => octets,
  // four fields on top
  cyrus: (octets) => octets.subarray(octets.indexOf('Received: from sender.example')),
  // an empty line at the end
  'solid-pop3d': (octets) => octets.subarray(0, -2),
  // X-UIDL and the like behind the other fields
  mailutils: (octets) => {
    const end = octets.indexOf('\r\n\r\n') + 2;
    const header = octets.toString('latin1', 0, end).replaceAll(/^(?:X-UIDL|X-UID|X-IMAPbase|Status): .*\r\n/gm, '');
    return Buffer.concat([Buffer.from(header, 'latin1'), octets.subarray(end)]);
  },
};

/** Servers that take a hash of a few header fields for the unique-id. */
const TWINS = new Set<Pop3ServerName>(['popa3d', 'solid-pop3d']);
const WITHOUT_CAPA = new Set<Pop3ServerName>(['popa3d', 'solid-pop3d']);

/** A server and a maildrop of one's own in it. */
class Place {
  readonly server: RunningServer;
  readonly user: string;

  constructor(server: RunningServer, user: string) {
    this.server = server;
    this.user = user;
  }

  async deliver(...messages: readonly (Buffer | string)[]): Promise<void> {
    await this.server.deliver(
      this.user,
      messages.map((one) => Buffer.from(one as string)),
    );
  }

  async open(options: Partial<Pop3Options> = {}): Promise<Pop3Client> {
    const { security = 'none' } = options;
    return await Pop3Client.open({
      host: 'localhost',
      port: security === 'tls' ? this.server.tlsPort : this.server.port,
      security,
      tls: {
        caFile: this.server.ca,
        fingerprint: undefined,
        serverName: undefined,
        certFile: undefined,
        keyFile: undefined,
      },
      user: this.user,
      password: () => Promise.resolve(this.user.replace('u', 'p')),
      timeout: 30_000,
      ...options,
    });
  }

  /** Opens, works, quits. */
  async session<T>(work: (client: Pop3Client) => Promise<T>, options: Partial<Pop3Options> = {}): Promise<T> {
    const client = await this.open(options);
    try {
      const result = await work(client);
      await client.quit();
      return result;
    } finally {
      client.abort();
    }
  }
}

/** A message with a Received line of its own, so that all six give it a unique-id of its own. */
function mail(id: number, text = `text of ${String(id)}`): string {
  return (
    `Received: from sender.example by isp.example id ${String(id)}; Mon, 02 Nov 2026 10:00:00 +0000\r\n` +
    `From: s@sender.example\r\nSubject: message ${String(id)}\r\nMessage-ID: <${String(id)}@sender.example>\r\n` +
    `Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\n${text}\r\n`
  );
}

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

async function octetsOf(client: Pop3Client, messageNumber: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const octets = await client.retrieve(messageNumber, { write: (piece) => void pieces.push(piece) });
  const message = Buffer.concat(pieces);
  assert.equal(message.length, octets);
  return message;
}

/** The number in `Subject: message N`: message numbers are no order of arrival at some servers. */
async function idOf(client: Pop3Client, messageNumber: number): Promise<number> {
  const header = await client.top(messageNumber, 0);
  return Number(/^Subject: message (\d+)/m.exec(header.toString('latin1'))?.[1]);
}

async function uniqueIds(client: Pop3Client): Promise<(string | undefined)[]> {
  return (await client.listing()).entries.map(({ uniqueId }) => uniqueId);
}

interface Behaviour {
  readonly only?: ReadonlySet<Pop3ServerName>;
  readonly not?: ReadonlySet<Pop3ServerName>;
  readonly run: (place: Place, name: Pop3ServerName) => Promise<void>;
}

const BEHAVIOURS: Readonly<Record<string, Behaviour>> = {
  'says what it can before and after the login, and an empty maildrop is empty': {
    run: async (place, name) =>
      place.session(async (client) => {
        assert.equal(client.capabilities.announced, !WITHOUT_CAPA.has(name));
        assert.equal(client.capabilities.uidl && client.capabilities.top, true);
        assert.deepEqual(await client.stat(), { count: 0, octets: 0 });
        assert.deepEqual(await client.listing(), { entries: [], hasUniqueIds: true });
      }),
  },
  'octets by implicit TLS, by SHA-256': { run: (place, name) => compareCorpus(place, name, 'tls') },
  'octets by STLS, by SHA-256': { not: WITHOUT_CAPA, run: (place, name) => compareCorpus(place, name, 'starttls') },
  'octets in the clear, by SHA-256': { run: (place, name) => compareCorpus(place, name, 'none') },
  'STLS that is not offered is a refusal of ours': {
    only: WITHOUT_CAPA,
    run: async (place) => {
      await assert.rejects(place.open({ security: 'starttls' }), { kind: 'policy' });
    },
  },
  'unique-ids: all there, different, the same in the next session, and one by one': {
    run: async (place) => {
      await place.deliver(...range(7).map((id) => mail(id)));
      const first = await place.session(uniqueIds);
      assert.equal(new Set(first).size, 7);
      await place.session(async (client) => {
        assert.deepEqual(await uniqueIds(client), first);
        assert.equal(await client.uniqueId(5), first[4]);
        assert.equal(await client.uniqueId(8), undefined);
        assert.equal((await client.stat()).count, 7);
      });
    },
  },
  'hundreds of RETR in one go, each answered by its own message': {
    run: async (place, name) => {
      // without CAPA one after the other, each with a delayed ACK
      const count = WITHOUT_CAPA.has(name) ? 40 : 300;
      await place.deliver(...range(count).map((id) => mail(id, `.\r\n${'.x\r\n'.repeat(id)}`)));
      await place.session(async (client) => {
        const messages = await Promise.all(range(count).map((number) => octetsOf(client, number)));
        const ids = messages.map((message) => {
          const id = Number(/^Subject: message (\d+)/m.exec(message.toString('latin1'))?.[1]);
          assert.equal(message.toString('latin1').match(/^\.x/gm)?.length, id);
          return id;
        });
        assert.deepEqual(
          ids.toSorted((a, b) => a - b),
          range(count),
        );
      });
    },
  },
  '-ERR in the middle of a pipeline concerns its message alone': {
    run: async (place) => {
      await place.deliver(...range(4).map((id) => mail(id)));
      await place.session(async (client) => {
        const settled = await Promise.allSettled([1, 2, 99, 3, 4].map((number) => octetsOf(client, number)));
        assert.deepEqual(
          settled.map(({ status }) => status),
          ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
        );
        const failure: unknown = settled[2]?.status === 'rejected' ? settled[2].reason : undefined;
        assert(failure instanceof Error && 'kind' in failure && 'scope' in failure);
        assert.deepEqual([failure.kind, failure.scope], ['refused', 'message']);
      });
    },
  },
  'TOP gives the header, and lines of the body': {
    run: async (place, name) => {
      await place.deliver(mail(1, 'one\r\n.two\r\nthree\r\n'));
      await place.session(async (client) => {
        const header = CHANGES[name === 'solid-pop3d' ? 'dovecot' : name](await client.top(1, 0)).toString('latin1');
        assert.equal(header, mail(1).split('\r\n\r\n')[0] + '\r\n\r\n');
        assert.match((await client.top(1, 2)).toString('latin1'), /\r\n\r\n(?:\r\n)?one\r\n(?:\.two\r\n)?$/);
      });
    },
  },
  'a header that is not ASCII comes as it was sent': {
    // Cyrus puts X for each such octet as it takes the message; Courier wraps the message unless UTF8 was said
    not: new Set(['cyrus']),
    run: async (place, name) => {
      const octets = Buffer.from(mail(1).replace('Subject: ', 'Subject: \xe4\xf6 '), 'latin1');
      await place.deliver(octets);
      await place.session(async (client) => {
        assert.deepEqual(CHANGES[name](await octetsOf(client, 1)), octets);
      });
    },
  },
  'a stream of 8 MB, read slowly at first': {
    run: async (place) => {
      const line = `${'.'.repeat(40)}${'x'.repeat(30)}\r\n`;
      await place.deliver(mail(1, line.repeat(Math.ceil((8 * 1024 * 1024) / line.length))), mail(2));
      await place.session(async (client) => {
        let octets = 0;
        for await (const chunk of client.retrieveStream(1)) {
          if (octets === 0) await new Promise((resolve) => setTimeout(resolve, 50));
          octets += (chunk as Buffer).length;
        }
        assert(octets > 8 * 1024 * 1024);
        assert.match((await octetsOf(client, 2)).toString('latin1'), /text of 2/);
      });
    },
  },
  'DELE and QUIT remove exactly those; the others keep their unique-ids': {
    run: async (place) => {
      await place.deliver(...range(6).map((id) => mail(id)));
      const before = await place.session(async (client) => {
        const ids = await uniqueIds(client);
        await Promise.all([2, 3, 6].map((number) => client.delete(number)));
        return ids;
      });
      const left = await place.session(uniqueIds);
      assert.deepEqual(new Set(left), new Set([before[0], before[3], before[4]]));
      assert.equal(await place.server.count(place.user), 3);
    },
  },
  'DELE without QUIT removes nothing, and the maildrop opens again': {
    run: async (place) => {
      await place.deliver(...range(3).map((id) => mail(id)));
      const client = await place.open();
      await Promise.all([1, 2, 3].map((number) => client.delete(number)));
      client.abort();
      await until(async () => (await place.session((again) => again.stat())).count === 3);
    },
  },
  'RSET takes DELE back': {
    run: async (place) => {
      await place.deliver(mail(1), mail(2));
      await place.session(async (client) => {
        await Promise.all([client.delete(1), client.delete(2), client.reset()]);
        assert.equal((await client.stat()).count, 2);
        await client.noop();
      });
      assert.equal(await place.server.count(place.user), 2);
    },
  },
  'broken off in the middle of a message: nothing is given as whole, nothing removed': {
    run: async (place) => {
      await place.deliver(mail(1, 'x'.repeat(70).concat('\r\n').repeat(20_000)));
      const client = await place.open();
      await client.delete(1).then(() => client.reset());
      const retrieval = client.retrieve(1, { write: () => client.abort() });
      await assert.rejects(retrieval, { kind: 'closed' });
      assert(client.closed);
      await until(async () => (await place.session((again) => again.stat())).count === 1);
    },
  },
  'a wrong password is told apart, and is in no error': {
    run: async (place, name) => {
      const sent: string[] = [];
      const wrong = place.open({
        security: 'tls',
        password: () => Promise.resolve('hunter2'),
        log: ({ direction, line }) => sent.push(`${direction}: ${line}`),
      });
      await assert.rejects(wrong, (error: { kind?: string; scope?: string; responseCode?: string }) => {
        assert.deepEqual([error.kind, error.scope], ['auth', 'account']);
        assert.equal(error.responseCode, ['dovecot', 'cyrus', 'mailutils'].includes(name) ? 'AUTH' : undefined);
        assert.doesNotMatch(inspect(error) + sent.join(), /hunter2/);
        return true;
      });
      // not one try with each method: one, or a second one where Courier does not say why it refused CRAM-MD5
      const tries = sent.filter((line) => /^C: (PASS|AUTH \S+|APOP .*)$/.test(line.replace(' [secret]', '')));
      assert.equal(tries.length, name === 'courier' ? 2 : 1, sent.join('\n'));
    },
  },
  'another session has it open': {
    run: async (place, name) => {
      await place.deliver(mail(1), mail(2));
      await place.session(async (first) => {
        assert.equal((await first.stat()).count, 2);
        const second = place.session((client) => client.stat());
        if (name !== 'mailutils') assert.equal((await second).count, 2);
        else await assert.rejects(second, { kind: 'refused', scope: 'account', responseCode: 'IN-USE' });
        await first.noop();
      });
    },
  },
  'mail that comes during a session is there in the next one, under a unique-id of its own': {
    run: async (place) => {
      await place.deliver(mail(1));
      const before = await place.session(async (client) => {
        const ids = await uniqueIds(client);
        await place.deliver(mail(2));
        await client.listing();
        return ids;
      });
      const after = await place.session(uniqueIds);
      assert.equal(after.length, 2);
      assert.equal(after.filter((uniqueId) => uniqueId === before[0]).length, 1);
    },
  },
  'a message that another session removes: it alone fails, or the session does; none comes out wrong': {
    // Mailutils lets nobody else in
    not: new Set(['mailutils']),
    run: async (place) => {
      await place.deliver(...range(3).map((id) => mail(id)));
      const client = await place.open();
      const numbers = new Map<number, number>();
      for (const { messageNumber } of (await client.listing()).entries)
        numbers.set(await idOf(client, messageNumber), messageNumber);
      await place.session(async (other) => {
        for (const { messageNumber } of (await other.listing()).entries)
          if ((await idOf(other, messageNumber)) === 2) await other.delete(messageNumber);
      });
      const settled = await Promise.allSettled([1, 2, 3].map((id) => octetsOf(client, numbers.get(id) ?? 0)));
      for (const [index, outcome] of settled.entries()) {
        if (outcome.status === 'fulfilled')
          assert.match(outcome.value.toString('latin1'), new RegExp(`text of ${String(index + 1)}\r\n`));
        else assert.match(String((outcome.reason as { kind?: string }).kind), /^(refused|closed)$/);
      }
      if (!client.closed) assert.deepEqual([settled[0]?.status, settled[2]?.status], ['fulfilled', 'fulfilled']);
      client.abort();
    },
  },
  'messages that share a unique-id are two messages': {
    run: async (place, name) => {
      const same = 'From: a@b.example\r\nSubject: twin\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\n';
      await place.deliver(`${same}the first\r\n`, `${same}the second\r\n`);
      await place.session(async (client) => {
        const { entries } = await client.listing();
        assert.equal(entries.length, 2);
        assert.equal(new Set(entries.map(({ uniqueId }) => uniqueId)).size, TWINS.has(name) ? 1 : 2);
        const texts = await Promise.all([1, 2].map(async (number) => (await octetsOf(client, number)).toString()));
        const found = texts.map((text) => /the (first|second)/.exec(text)?.[1]);
        assert.deepEqual(new Set(found), new Set(['first', 'second']));
      });
    },
  },
};

async function compareCorpus(place: Place, name: Pop3ServerName, security: Pop3Options['security']): Promise<void> {
  const messages = corpus(40, 600_000, 11).filter((message) => message.octets.length > 100 && suits(name, message));
  await place.deliver(...messages.map(({ octets }) => octets));
  const hashes = await place.session(
    async (client) => {
      const { entries } = await client.listing();
      assert.equal(entries.length, messages.length);
      const octets = await Promise.all(entries.map(({ messageNumber }) => octetsOf(client, messageNumber)));
      return octets.map((message) => sha256(CHANGES[name](message)));
    },
    { security },
  );
  assert.deepEqual(hashes.toSorted(), messages.map((message) => message.sha256).toSorted());
}

function suits(name: Pop3ServerName, { shape }: CorpusMessage): boolean {
  return name !== 'cyrus' || (shape !== 'nul' && shape !== 'loneCr');
}

suite('the client against', { skip: serversAvailable() ?? false, concurrency: 2 }, () => {
  for (const name of POP3_SERVERS) {
    test(name, async (context) => {
      await using server = await startServer(name, { users: Object.keys(BEHAVIOURS).length });
      for (const [index, [title, { run, only, not }]] of Object.entries(BEHAVIOURS).entries()) {
        const skip = (only !== undefined && !only.has(name)) || (not?.has(name) ?? false);
        await context.test(title, { skip }, () => run(new Place(server, `u${String(index + 1)}`), name));
      }
    });
  }

  test('dovecot, one session at a time: [IN-USE]', async () => {
    await using server = await startServer('dovecot', { users: 1, env: { LOCK: '1' } });
    const place = new Place(server, 'u1');
    await place.session(async (first) => {
      await first.stat();
      await assert.rejects(place.open(), { kind: 'refused', scope: 'account', responseCode: 'IN-USE' });
    });
  });

  test('cyrus, one login a minute: [LOGIN-DELAY]', async () => {
    await using server = await startServer('cyrus', { users: 1, env: { IMAPD_CONF: 'popminpoll: 1' } });
    const place = new Place(server, 'u1');
    await place.deliver(mail(1));
    await place.session(async (client) => {
      assert.equal((await client.stat()).count, 1);
      assert.equal(client.capabilities.loginDelay?.seconds, 60);
    });
    await assert.rejects(place.open(), { kind: 'refused', scope: 'account', responseCode: 'LOGIN-DELAY' });
  });

  test('dovecot, unique-ids that it cannot make: a list that breaks off is no empty list', async () => {
    await using server = await startServer('dovecot', { users: 1, env: { UIDL_FORMAT: '%m' } });
    const place = new Place(server, 'u1');
    await place.deliver(mail(1));
    const client = await place.open();
    await assert.rejects(client.listing(), { kind: 'closed' });
  });

  test('dovecot, TLS required: refused in the clear, let in by STLS', async () => {
    await using server = await startServer('dovecot', { users: 1, env: { TLS: 'required' } });
    const place = new Place(server, 'u1');
    const host = server.strictHost;
    // it lists no way to log in there, so the password does not leave
    await assert.rejects(place.open({ host, password: () => Promise.reject(new Error('asked for')) }), Error);
    await place.session((client) => client.stat(), { host, security: 'starttls' });
  });

  test('courier, a Maildir that is gone: -ERR without a code may be the password, or not', async () => {
    await using server = await startServer('courier', { users: 1 });
    const place = new Place(server, 'u1');
    await place.session((client) => client.stat());
    await rm(server.users[0]?.maildir ?? '', { recursive: true });
    await assert.rejects(place.open(), (error: { kind?: string; responseCode?: string; said?: string }) => {
      assert.deepEqual([error.kind, error.responseCode], ['auth', undefined]);
      assert.match(error.said ?? '', /chdir/);
      return true;
    });
  });
});
