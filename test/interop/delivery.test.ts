import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chown, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { ImapFlow } from 'imapflow';
import { dkimVerify } from 'mailauth/lib/dkim/verify.js';
import DKIM from 'nodemailer/lib/dkim';
import type { DestinationConfig, TlsConfig } from '../../src/config/types.ts';
import type { Outcome } from '../../src/delivery/destination.ts';
import { normalizeLineEnds } from '../../src/mail/line-ends.ts';
import { openDestination } from '../../src/delivery/open.ts';
import { startHttpSink } from '../support/http-sink.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { freePort } from '../support/ports.ts';
import { serversAvailable, startServer } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

const skip = serversAvailable() ?? false;
const context = { hostName: 'ferry.test', now: () => new Date() };
const NO_TLS: TlsConfig = {
  caFile: undefined,
  fingerprint: undefined,
  serverName: undefined,
  certFile: undefined,
  keyFile: undefined,
};
const common = { name: 'peer', concurrency: 2, timeout: 20_000, security: 'none', tls: NO_TLS } as const;

async function deliverTo(config: DestinationConfig, mail: Buffer): Promise<Outcome> {
  const destination = openDestination(config, context);
  try {
    await destination.check(new AbortController().signal);
    return await destination.deliver(deliveryOf(storedMessage(mail)));
  } finally {
    await destination.close();
  }
}

function secretOf(text: string): { reveal(): Promise<string> } {
  return { reveal: () => Promise.resolve(text) };
}

function smtp(server: RunningServer, changes: object = {}): DestinationConfig {
  const place = { host: server.host, port: server.port };
  const envelope = { to: ['u1@example.net'], from: { kind: 'original' as const }, trace: true, helo: undefined };
  return { ...common, type: 'smtp', ...place, auth: undefined, ...envelope, ...changes };
}

function lmtp(server: RunningServer, to: readonly string[]): DestinationConfig {
  const place = { host: server.host, port: server.lmtpPort };
  return {
    ...common,
    type: 'lmtp',
    place,
    auth: undefined,
    to,
    from: { kind: 'original' },
    trace: true,
    helo: undefined,
  };
}

/** A message with a DKIM signature of example.org, and everything that forwarders like to break. */
async function signedMail(): Promise<{ mail: Buffer; publicKey: string }> {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const plain = [
    'From:   Jane <jane@example.org>',
    'To: me@example.net',
    'SUBJECT: =?utf-8?q?Gr=C3=BC=C3=9Fe?=',
    'Date: Fri, 02 Jan 2026 03:04:05 +0100',
    'Message-ID: <1@example.org>',
    '',
    'Text with  two blanks and trailing ones  ',
    '.',
    '..dots',
    'From the start of a line',
    'caf\u00e9',
    '',
    '',
  ].join('\r\n');
  const signer = new DKIM({ domainName: 'example.org', keySelector: 'key', privateKey });
  const chunks: Buffer[] = [];
  for await (const chunk of signer.sign(plain) as AsyncIterable<Buffer>) chunks.push(chunk);
  return {
    mail: Buffer.concat([Buffer.from('Return-Path: <jane@example.org>\r\n'), ...chunks]),
    publicKey: publicKey.replaceAll(/-----.*-----|\s/g, ''),
  };
}

async function verified(mail: Buffer, publicKey: string): Promise<string> {
  const resolver = (): Promise<string[][]> => Promise.resolve([[`v=DKIM1; k=rsa; p=${publicKey}`]]);
  const { results } = await dkimVerify(mail, { resolver });
  return results.map(({ status }) => status.result).join();
}

/** All messages of a folder by IMAP. */
async function byImap(port: number, folder = 'INBOX'): Promise<{ source: Buffer; flags: string[]; date: string }[]> {
  const auth = { user: 'u1', pass: 'p1' };
  const client = new ImapFlow({ host: '127.0.0.1', port, secure: false, doSTARTTLS: false, auth, logger: false });
  await client.connect();
  try {
    await client.mailboxOpen(folder);
    const found = await client.fetchAll('1:*', { source: true, flags: true, internalDate: true });
    return found.map(({ source, flags, internalDate }) => ({
      source: source ?? Buffer.alloc(0),
      flags: [...(flags ?? [])],
      date: new Date(internalDate ?? 0).toISOString(),
    }));
  } finally {
    await client.logout();
  }
}

suite('Postfix', { skip, timeout: 120_000 }, () => {
  test('takes mail after STARTTLS and login, and DKIM survives', async () => {
    await using server = await startServer('postfix', { env: { AUTH: 'required', TLS: 'required' } });
    const tls = { ...NO_TLS, caFile: server.ca };
    const auth = { user: 'u1', password: secretOf('p1') };
    const { mail, publicKey } = await signedMail();
    const outcome = await deliverTo(smtp(server, { security: 'starttls', tls, auth }), mail);
    assert.equal(outcome.kind, 'confirmed', outcome.said);
    assert.match(outcome.said, /queued as/);
    const implicit = { ...NO_TLS, caFile: server.ca, serverName: 'localhost' };
    const second = smtp(server, { security: 'tls', port: server.tlsPort, tls: implicit, auth });
    assert.equal((await deliverTo(second, mail)).kind, 'confirmed');
    await until(async () => (await server.count('u1')) === 2);
    for (const stored of await server.stored('u1')) {
      const crlf = Buffer.from(stored.toString('latin1').replaceAll('\n', '\r\n'), 'latin1');
      assert.equal(await verified(crlf, publicKey), 'pass');
      assert.match(crlf.toString('latin1'), /^Return-Path: <jane@example\.org>/);
    }
  });

  test('says no to a wrong password, to plaintext, to recipients and to size', async () => {
    await using server = await startServer('postfix', { env: { SIZE_LIMIT: '100000' } });
    const mail = Buffer.from('Subject: x\r\n\r\nx\r\n');
    const wrong = { user: 'u1', password: secretOf('wrong') };
    const tls = { ...NO_TLS, caFile: server.ca };
    await assert.rejects(deliverTo(smtp(server, { security: 'starttls', tls, auth: wrong }), mail), {
      code: 'smtp.auth',
    });
    await assert.rejects(deliverTo(smtp(server, { security: 'starttls' }), mail), { code: 'smtp.tls' });
    const to = [
      'u1@example.net',
      'tempfail@example.net',
      'overquota@example.net',
      'reject@example.net',
      'nobody@example.net',
    ];
    const outcome = await deliverTo(smtp(server, { to }), mail);
    assert.equal(outcome.kind, 'deferred');
    assert.deepEqual(
      to.map((address) => outcome.recipients?.[address]?.kind),
      ['confirmed', 'deferred', 'deferred', 'rejected', 'rejected'],
    );
    const late = await deliverTo(smtp(server, { to: ['bodyfail@example.net'] }), mail);
    assert.deepEqual([late.kind, late.scope], ['deferred', 'message']);
    const large = await deliverTo(smtp(server), Buffer.alloc(100_001, 'x\r\n'));
    assert.equal(large.kind, 'rejected');
    assert.match(large.said, /the server takes 100000/);
  });

  test('refuses some of a stream of messages, and gets the others on the same connection', async () => {
    await using server = await startServer('postfix');
    const multidrop = { headers: ['Delivered-To'], removePrefix: undefined, domains: ['example.net'] };
    const destination = openDestination(smtp(server, { concurrency: 1, multidrop }), context);
    const users = ['u1', 'tempfail', 'u1', 'reject', 'overquota', 'nobody', 'u1', 'u1', 'reject', 'u1'];
    const outcomes = await Promise.all(
      users.map((user) => {
        const mail = Buffer.from(`Delivered-To: ${user}@example.net\r\nSubject: x\r\n\r\nx\r\n`);
        return destination.deliver(deliveryOf(storedMessage(mail)));
      }),
    );
    await destination.close();
    const expected = { u1: 'confirmed', tempfail: 'deferred', overquota: 'deferred' } as Record<string, string>;
    assert.deepEqual(
      outcomes.map(({ kind }) => kind),
      users.map((user) => expected[user] ?? 'rejected'),
    );
    await until(async () => (await server.count('u1')) === 5);
    // Postfix's own words on the connection, once it is over.
    const isTold = /disconnect from .* ehlo=1 mail=10 rcpt=5\/10 data=5\/10 rset=5 quit=1 /;
    await until(async () => isTold.test(await readFile(join(server.dir, 'mail.log'), 'utf8')));
  });

  test('gets one message of each that smuggles', async () => {
    await using server = await startServer('postfix');
    const smuggled =
      'MAIL FROM:<evil@example.org>\r\nRCPT TO:<u1@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n';
    const ends = ['\n.\n', '\n.\r\n', '\r\n.\n', '\r.\r', '\r.\r\n', '\r\n.\r', '\n.\r', '\r.\n', '\r\n.\r\n'];
    for (const end of ends) {
      const mail = Buffer.from(`Subject: x\r\n\r\nbefore${end}${smuggled}.\r\n`);
      assert.equal((await deliverTo(smtp(server, { trace: false }), mail)).kind, 'confirmed');
    }
    await until(async () => (await server.count('u1')) >= ends.length);
    const stored = await server.stored('u1');
    assert.equal(stored.length, ends.length);
    const bodies = stored.map((octets) => octets.toString('latin1').replace(/^[^]*?\n(?=Subject: x\n)/, ''));
    const expected = ends.map((end) =>
      normalizeLineEnds(Buffer.from(`Subject: x\r\n\r\nbefore${end}${smuggled}.\r\n`))
        .toString('latin1')
        .replaceAll('\r\n', '\n'),
    );
    assert.deepEqual(bodies.sort(), expected.sort());
  });
});

suite('Dovecot', { skip, timeout: 120_000 }, () => {
  test('takes mail by LMTP, answers for each recipient, and DKIM survives', async () => {
    await using server = await startServer('dovecot', { lmtp: true });
    const { mail, publicKey } = await signedMail();
    const to = ['u1@example.net', 'u2@example.net'];
    const outcome = await deliverTo(lmtp(server, to), mail);
    assert.equal(outcome.kind, 'confirmed', outcome.said);
    for (const [index, address] of to.entries()) {
      assert.match(
        outcome.recipients?.[address]?.said ?? '',
        new RegExp(`^250 2\\.0\\.0 <u${String(index + 1)}.*Saved`),
      );
    }
    const [stored = Buffer.alloc(0)] = await server.stored('u1');
    assert.equal(
      await verified(Buffer.from(stored.toString('latin1').replace(/\r?\n/g, '\r\n'), 'latin1'), publicKey),
      'pass',
    );
  });

  test('takes mail by IMAP, with its flags and time, and DKIM survives', async () => {
    const IMAPPORT = await freePort();
    const IMAPSPORT = await freePort();
    const env = { IMAPPORT: String(IMAPPORT), IMAPSPORT: String(IMAPSPORT) };
    await using server = await startServer('dovecot', { env });
    const { mail, publicKey } = await signedMail();
    const octets = Buffer.from(mail.toString('latin1').replace('caf\u00c3\u00a9', 'nul'), 'latin1');
    const tls = { ...NO_TLS, caFile: server.ca };
    const config = {
      ...common,
      type: 'imap',
      host: server.host,
      tls,
      auth: { user: 'u1', password: secretOf('p1') },
      folder: 'Old mail',
      flags: ['\\Seen', '$Ferried'],
    } as const;
    const first = await deliverTo({ ...config, security: 'tls', port: IMAPSPORT }, mail);
    assert.deepEqual([first.kind, first.said], ['confirmed', 'Old mail: UID 1']);
    const second = await deliverTo({ ...config, security: 'starttls', port: IMAPPORT }, octets);
    assert.deepEqual([second.kind, second.said], ['confirmed', 'Old mail: UID 2']);
    const [found] = await byImap(IMAPPORT, 'Old mail');
    assert.deepEqual(found?.source, mail);
    assert.deepEqual(found.flags.filter((flag) => flag !== '\\Recent').sort(), ['$Ferried', '\\Seen']);
    assert.equal(found.date, '2026-01-02T02:04:05.000Z');
    assert.equal(await verified(found.source, publicKey), 'pass');

    const wrong = {
      ...config,
      security: 'tls',
      port: IMAPSPORT,
      auth: { user: 'u1', password: secretOf('wrong') },
    } as const;
    await assert.rejects(deliverTo(wrong, mail), { code: 'imap.auth' });
    await assert.rejects(deliverTo({ ...config, security: 'tls', port: IMAPSPORT, tls: NO_TLS }, mail), {
      code: 'imap.tls',
    });
    await assert.rejects(deliverTo({ ...config, security: 'none', port: await freePort() }, mail), {
      code: 'imap.session',
    });
  });

  test('serves a Maildir that we wrote, octet for octet, and DKIM survives', async () => {
    const IMAPPORT = await freePort();
    await using server = await startServer('dovecot', { env: { IMAPPORT: String(IMAPPORT) } });
    const maildir = server.users[0]?.maildir ?? assert.fail();
    const { uid, gid } = await stat(dirname(maildir));
    await mkdir(maildir, { recursive: true });
    const { mail, publicKey } = await signedMail();
    const config = { ...common, type: 'maildir', path: maildir, flags: '' } as const;
    assert.equal((await deliverTo({ ...config, lineEnds: 'crlf' }, mail)).kind, 'confirmed');
    // Dovecot reads as a user of its own
    for (const folder of ['.', 'tmp', 'new', 'cur']) await chown(join(maildir, folder), uid, gid);
    for (const file of await readdir(join(maildir, 'new'))) await chown(join(maildir, 'new', file), uid, gid);
    const [found] = await byImap(IMAPPORT);
    assert.deepEqual(found?.source, mail);
    assert.equal(await verified(found.source, publicKey), 'pass');
  });
});

test('a webhook gets the signed octets, and DKIM survives', async () => {
  await using sink = await startHttpSink();
  const { mail, publicKey } = await signedMail();
  const config: DestinationConfig = {
    ...common,
    type: 'webhook',
    url: sink.url,
    secret: undefined,
    format: 'raw',
    headers: {},
    allowPrivate: true,
  };
  assert.equal((await deliverTo(config, mail)).kind, 'confirmed');
  assert.deepEqual(sink.requests[0]?.body, mail);
  assert.equal(await verified(sink.requests[0].body, publicKey), 'pass');
});
