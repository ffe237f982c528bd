import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { suite, test } from 'node:test';
import type { ImapConfig } from '../../src/config/types.ts';
import type { Outcome } from '../../src/delivery/destination.ts';
import { openImap } from '../../src/delivery/imap.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { deliveryOf, hugeMessage, storedMessage } from '../support/stored.ts';

assertNoLeaks();

const MAIL = 'Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nSubject: hello\r\n\r\nHello.\r\n';
const context = { hostName: 'ferry.test', now: () => new Date('2026-02-01T00:00:00Z') };

interface ImapServer extends AsyncDisposable {
  readonly port: number;
  readonly appended: Buffer[];
  readonly commands: string[];
  connections: number;
}

/** Says OK to everything, but for what `answer` gives: the end of a tagged line, `drop`, or nothing for no answer. */
async function startImap(answer: (command: string) => string | undefined): Promise<ImapServer> {
  const sockets = new Set<Socket>();
  const state: Omit<ImapServer, keyof AsyncDisposable> = { port: 0, appended: [], commands: [], connections: 0 };
  const server = createServer((socket) => {
    state.connections++;
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.write('* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS] ready\r\n');
    let pending = Buffer.alloc(0);
    let literal: { head: string; size: number } | undefined;
    const reply = (line: string): void => {
      const [tag = '', ...words] = line.split(' ');
      const command = words.join(' ');
      state.commands.push(command);
      const own = answer(command);
      if (own === 'drop') socket.destroy();
      else if (own !== '') socket.write(`${tag} ${own ?? 'OK done'}\r\n`);
    };
    socket.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        if (literal !== undefined) {
          if (pending.length < literal.size + 2) return;
          state.appended.push(pending.subarray(0, literal.size));
          pending = pending.subarray(literal.size + 2);
          const { head } = literal;
          literal = undefined;
          reply(head);
          continue;
        }
        const at = pending.indexOf('\r\n');
        if (at < 0) return;
        const line = pending.subarray(0, at).toString('latin1');
        pending = pending.subarray(at + 2);
        const size = /\{(\d+)\+?\}$/.exec(line)?.[1];
        if (size === undefined) reply(line);
        else {
          literal = { head: line, size: Number(size) };
          socket.write('+ go on\r\n');
        }
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(state, {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose](): Promise<void> {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  });
}

function imapConfig(port: number): ImapConfig {
  return {
    name: 'mailbox',
    type: 'imap',
    concurrency: 2,
    timeout: 5000,
    host: '127.0.0.1',
    port,
    security: 'none',
    tls: { caFile: undefined, fingerprint: undefined, serverName: undefined, certFile: undefined, keyFile: undefined },
    auth: { user: 'jane', password: { reveal: () => Promise.resolve('secret') } },
    folder: 'Old mail',
    flags: ['\\Seen'],
  };
}

async function deliverOnce(port: number, signal = new AbortController().signal): Promise<Outcome> {
  const destination = openImap(imapConfig(port), context);
  try {
    return await destination.deliver(deliveryOf(storedMessage(MAIL), { signal }));
  } finally {
    await destination.close();
  }
}

suite('IMAP', { concurrency: true }, () => {
  test('appends the octets with flags and time, notes the UID, and keeps the connection', async () => {
    await using server = await startImap((command) =>
      command.startsWith('APPEND') ? 'OK [APPENDUID 7 42] done' : undefined,
    );
    const destination = openImap(imapConfig(server.port), context);
    for (let count = 0; count < 3; count++) {
      const outcome = await destination.deliver(deliveryOf(storedMessage(MAIL, { streamed: true })));
      assert.deepEqual([outcome.kind, outcome.said], ['confirmed', 'Old mail: UID 42']);
    }
    assert.equal(server.appended[0]?.toString(), MAIL);
    assert.equal(server.connections, 1);
    const append = server.commands.find((command) => command.startsWith('APPEND')) ?? '';
    assert.match(append, /^APPEND "Old mail" \(\\Seen\) " ?2-Jan-2026 03:04:05 \+0000" \{\d+\}$/);
    await destination.close();
  });

  const answers: readonly (readonly [answer: string, kind: Outcome['kind'], scope: Outcome['scope']])[] = [
    ['NO [OVERQUOTA] Mailbox is full', 'deferred', 'destination'],
    ['NO sorry', 'deferred', 'message'],
    ['NO [TOOBIG] too big', 'rejected', 'message'],
    ['BAD no NUL in literals', 'rejected', 'message'],
    ['drop', 'inDoubt', 'message'],
  ];
  for (const [answer, kind, scope] of answers) {
    test(`${answer} to APPEND is ${kind}`, async () => {
      await using server = await startImap((command) => (command.startsWith('APPEND') ? answer : undefined));
      const outcome = await deliverOnce(server.port);
      assert.deepEqual([outcome.kind, outcome.scope], [kind, scope], outcome.said);
    });
  }

  test('silence to APPEND is in doubt, silence before it deferred', async () => {
    for (const [silent, kind] of [
      ['APPEND', 'inDoubt'],
      ['CREATE', 'deferred'],
    ] as const) {
      const stop = new AbortController();
      await using server = await startImap((command) => {
        if (!command.startsWith(silent)) return undefined;
        stop.abort(new Error('not finished in time'));
        return '';
      });
      const outcome = await deliverOnce(server.port, stop.signal);
      assert.equal(outcome.kind, kind);
      assert.match(outcome.said, /not finished in time/);
    }
  });

  test('a refused login says what to do', async () => {
    await using server = await startImap((command) =>
      /^(LOGIN|AUTHENTICATE)/.test(command) ? 'NO [AUTHENTICATIONFAILED] wrong' : undefined,
    );
    const outcome = await deliverOnce(server.port);
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    assert.match(outcome.said, /^login refused; .*wrong; Check auth\.user and auth\.password of destination mailbox/);
  });

  test('what does not fit into memory is refused', async () => {
    const destination = openImap(imapConfig(9), context);
    const outcome = await destination.deliver(deliveryOf({ ...hugeMessage(1000), size: 200_000_000 }));
    assert.equal(outcome.kind, 'rejected');
    await destination.close();
  });
});
