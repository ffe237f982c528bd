// The main job on real servers: mail of every shape from Dovecot to Postfix and to a webhook, whole and once.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { corpus } from '../support/corpus.ts';
import type { CorpusMessage } from '../support/corpus.ts';
import { startHttpSink } from '../support/http-sink.ts';
import { Mailferry } from '../support/mailferry.ts';
import { serversAvailable, startServer } from '../support/servers.ts';
import { until } from '../support/wait.ts';

const COUNT = Number(process.env['E2E_MESSAGES'] ?? 1000);
const LARGEST = 5 * 1024 * 1024;

test(
  `${COUNT} messages of mixed shape from Dovecot to Postfix and a webhook`,
  { skip: serversAvailable() ?? false },
  async (t) => {
    await using pop3 = await startServer('dovecot', { users: 1 });
    await using smtp = await startServer('postfix', { users: 1 });
    await using hook = await startHttpSink({});
    const mail = corpus(COUNT, LARGEST);
    await pop3.deliver(
      'u1',
      mail.map(({ octets }) => octets),
    );
    const mailferry = await Mailferry.create(t, {
      destinations: {
        inbox: {
          type: 'smtp',
          host: '127.0.0.1',
          port: smtp.tlsPort,
          security: 'tls',
          caFile: smtp.ca,
          to: ['u1@example.com'],
          from: 'fwd@example.com',
        },
        hook: { type: 'webhook', url: hook.url, allowPrivate: true },
      },
      accounts: {
        isp: {
          host: 'localhost',
          port: pop3.tlsPort,
          security: 'tls',
          caFile: pop3.ca,
          user: 'u1',
          password: 'p1',
          every: '10s',
          deliverTo: ['inbox', 'hook'],
        },
      },
    });

    await using worker = mailferry.start();
    await until(async () => !worker.running || (await pop3.count('u1')) === 0, {
      timeout: 240_000,
      interval: 500,
      what: 'an empty maildrop',
    });
    assert.equal(await worker.stop(), 0, worker.noise);
    await until(async () => (await smtp.count('u1')) >= COUNT, {
      timeout: 60_000,
      interval: 500,
      what: 'all mail in the Maildir',
    });

    assert.deepEqual(
      hook.requests.map(({ sha256 }) => sha256).sort(),
      mail.map(({ sha256 }) => sha256).sort(),
      'octets at the webhook',
    );
    assert.equal(
      new Set(hook.requests.map(({ headers }) => headers['webhook-id'])).size,
      COUNT,
      'an id for each message',
    );
    const arrived = (await smtp.stored('u1')).map(belowOurTrace);
    assert.equal(arrived.length, COUNT, 'no repeat at Postfix');
    const hashes = new Set(arrived.map((octets) => sha256(octets)));
    const changed = mail.filter((message) => message.smtpSafe && !hashes.has(sha256(stored(message))));
    assert.deepEqual(
      changed.map(({ shape }) => shape),
      [],
      'octets at Postfix',
    );
    assert.deepEqual(worker.logged('delivery in doubt: it will be made again'), []);
  },
);

/** As Postfix stores it: lines ended by LF. */
function stored({ retrieved }: CorpusMessage): Buffer {
  return Buffer.from(retrieved.toString('latin1').replaceAll('\r\n', '\n'), 'latin1');
}

/** The message below the fields that Postfix and we put on top. Ours is the last of them. */
function belowOurTrace(octets: Buffer): Buffer {
  const text = octets.toString('latin1');
  const ours = /^Received:(?:[^\n]|\n[ \t])*mailferry(?:[^\n]|\n[ \t])*\n/m.exec(text);
  return ours ? Buffer.from(text.slice(ours.index + ours[0].length), 'latin1') : octets;
}

function sha256(octets: Buffer): string {
  return createHash('sha256').update(octets).digest('hex');
}
