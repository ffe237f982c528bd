// The engine: replies to commands in order, one deadline, sinks that wait or fail, and every way a connection may end.

import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NO_BODY } from '../../src/pop3/command.ts';
import { Pop3Error } from '../../src/pop3/error.ts';
import { wire } from '../support/engine-wire.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { until } from '../support/wait.ts';

assertNoLeaks();

/** How each of these ended: what it gave, or the kind of its error. */
async function outcomes(promises: readonly Promise<unknown>[]): Promise<unknown[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((one) => {
    if (one.status === 'fulfilled') return typeof one.value === 'string' ? one.value : 'ok';
    return one.reason instanceof Pop3Error ? one.reason.kind : String(one.reason);
  });
}

const PIPELINE =
  '+OK\r\nfirst\r\n.\r\n-ERR [SYS/PERM] gone\r\n+OK 3 octets\r\n..\r\n.\r\n+OK marked\r\n-ERR no such message\r\n+OK\r\n.\r\n';

for (const chunk of [undefined, 1, 2, 3, 7]) {
  test(`a pipeline with refusals in its middle, ${chunk ?? 'all'} octets at a time`, async () => {
    using line = wire();
    const all = outcomes([
      line.fetch('RETR 1'),
      line.fetch('RETR 2'),
      line.fetch('RETR 3'),
      line.ask('DELE 1'),
      line.ask('DELE 9'),
      line.fetch('RETR 4'),
    ]);
    await until(() => line.writes.length > 0);
    assert.deepEqual(line.writes, ['RETR 1\r\nRETR 2\r\nRETR 3\r\nDELE 1\r\nDELE 9\r\nRETR 4\r\n']);
    line.say(PIPELINE, chunk);
    assert.deepEqual(await all, ['first\r\n', 'refused', '.\r\n', 'ok', 'refused', '']);
    assert.equal(line.engine.closed, false);
  });
}

test('a refusal says what was refused, and with which words', async () => {
  using line = wire();
  const refused = line.fetch('RETR 2');
  line.engine.pipelining = true;
  await until(() => line.writes.length > 0);
  line.say('-ERR [sys/perm] Could not\u001b[2J read\r\n');
  await assert.rejects(refused, {
    kind: 'refused',
    scope: 'message',
    code: 'pop3.refused',
    command: 'RETR 2',
    responseCode: 'SYS/PERM',
    server: 'pop.example:110',
    said: '-ERR [sys/perm] Could not\\x1b[2J read',
  });
});

test('without PIPELINING one command at a time', async () => {
  using line = wire({ pipelining: false });
  const all = outcomes([line.ask('NOOP'), line.fetch('RETR 1'), line.ask('DELE 1')]);
  for (const [sent, answer] of [
    ['NOOP', '+OK\r\n'],
    ['RETR 1', '+OK\r\na\r\n.\r\n'],
    ['DELE 1', '+OK\r\n'],
  ] as const) {
    await until(() => line.writes.length > 0);
    await sleep(1);
    assert.deepEqual(line.writes.splice(0), [`${sent}\r\n`]);
    line.say(answer);
  }
  assert.deepEqual(await all, ['ok', 'a\r\n', 'ok']);
});

test('no more than a window is on its way, and it is refilled in few writes', async () => {
  using line = wire();
  const count = 40_000;
  const all = outcomes(Array.from({ length: count }, (_, index) => line.ask(`DELE ${index + 1}`)));
  await until(() => line.writes.length > 0);
  let answered = 0;
  while (answered < count) {
    const octets = line.writes.reduce((sum, { length }) => sum + length, 0);
    assert(octets - 'DELE 1\r\n'.length * answered <= 128 * 1024 + 5 * answered, 'more than a window');
    const sent = line.writes.join('').split('\r\n').length - 1;
    const answers = Math.min(1000, sent - answered);
    line.say('+OK\r\n'.repeat(answers));
    answered += answers;
    await sleep(0);
  }
  assert.deepEqual(new Set(await all), new Set(['ok']));
  assert(line.writes.length <= 12, `${line.writes.length} writes`);
});

test('a sink that waits makes the server wait, and its time is not the server’s', async () => {
  using line = wire({ timeout: 100 });
  const given: string[] = [];
  let go = (): void => undefined;
  const first = line.fetchInto('RETR 1', {
    write(piece) {
      given.push(piece.toString());
      return new Promise((resolve) => (go = resolve));
    },
  });
  const second = line.fetch('RETR 2');
  await until(() => line.writes.length > 0);
  line.say('+OK\r\none\r\n');
  await until(() => given.length === 1);
  line.say('more\r\n.\r\n+OK\r\ntwo\r\n.\r\n');
  await sleep(150);
  assert.deepEqual(given, ['one']);
  go();
  await until(() => given.length === 2);
  let isSecondDone = false;
  void second.then(() => (isSecondDone = true));
  await sleep(5);
  assert.equal(isSecondDone, false);
  go();
  await first;
  assert.equal(await second, 'two\r\n');
  assert.equal(given.join(''), 'one\r\nmore\r\n');
});

for (const [name, fail] of [
  ['throws', () => assert.fail('disk full')],
  ['rejects', () => Promise.reject(new Error('disk full'))],
  ['rejects later', () => sleep(5).then(() => assert.fail('disk full'))],
] as const) {
  test(`a sink that ${name} costs its own message only`, async () => {
    using line = wire();
    let writes = 0;
    const failed = line.fetchInto('RETR 1', {
      write() {
        writes += 1;
        return fail();
      },
    });
    const next = line.fetch('RETR 2');
    await until(() => line.writes.length > 0);
    line.say('+OK\r\nfirst piece\r\n');
    await until(() => writes === 1);
    line.say('second piece\r\n');
    await sleep(10);
    line.say('last\r\n.\r\n+OK\r\ntwo\r\n.\r\n');
    await assert.rejects(failed, { message: 'disk full' });
    assert.equal(await next, 'two\r\n');
    assert.equal(writes, 1);
  });
}

test('what nobody wants is not passed over for ever', async () => {
  using line = wire();
  const all = outcomes([line.fetchInto('RETR 1', { write: () => assert.fail('too large') }), line.ask('NOOP')]);
  await until(() => line.writes.length > 0);
  line.say('+OK\r\n');
  const megabyte = Buffer.alloc(1024 * 1024, 'x');
  for (let sent = 0; sent < 70 && !line.engine.closed; sent += 1) {
    line.say(megabyte);
    await sleep(0);
  }
  assert.deepEqual(await all, ['closed', 'closed']);
});

test('a challenge is an answer to AUTH alone', async () => {
  for (const command of ['RETR 1', 'DELE 1', 'QUIT']) {
    using line = wire();
    const all = outcomes([command.startsWith('RETR') ? line.fetch(command) : line.ask(command)]);
    await until(() => line.writes.length > 0);
    line.say('+ go on\r\n');
    assert.deepEqual(await all, ['protocol']);
  }
  using line = wire();
  const challenged = line.engine.send({ line: 'AUTH LOGIN', shown: 'AUTH LOGIN', body: NO_BODY, isAuth: true });
  await until(() => line.writes.length > 0);
  line.say('+ VXNlcm5hbWU6\r\n');
  assert.deepEqual(await challenged, { kind: 'continue', challenge: 'VXNlcm5hbWU6' });
});

const BROKEN: readonly [name: string, said: string, kind: string][] = [
  ['a banner of another protocol', '220 smtp.example ESMTP\r\n', 'protocol'],
  ['a reply line without end', 'x'.repeat(9000), 'protocol'],
  ['octets of TLS', '\u0015\u0003\u0001\u0000\u0002\u0002\n', 'protocol'],
  ['a command sent back', 'RETR 1\r\n', 'protocol'],
];

for (const [name, said, kind] of BROKEN) {
  test(`no reply: ${name}`, async () => {
    using line = wire();
    const all = outcomes([line.fetch('RETR 1'), line.ask('NOOP')]);
    await until(() => line.writes.length > 0);
    line.say(said);
    assert.deepEqual(await all, [kind, kind]);
    assert.equal(line.engine.closed, true);
    await assert.rejects(line.ask('NOOP'), { kind });
  });
}

test('what nobody asked for ends the session, and answers no later command', async () => {
  for (const [said, kind] of [
    ['-ERR [SYS/TEMP] Disconnected for inactivity.\r\n', 'closed'],
    ['+OK once more\r\n', 'protocol'],
    ['half a li', 'protocol'],
  ] as const) {
    using line = wire();
    line.say(said);
    await until(() => line.engine.closed);
    await assert.rejects(line.ask('DELE 1'), { kind, ...(kind === 'closed' ? { responseCode: 'SYS/TEMP' } : {}) });
    assert.deepEqual(line.writes, []);
  }
  using line = wire();
  const first = line.ask('NOOP');
  await until(() => line.writes.length > 0);
  line.say('+OK\r\n+OK for what?\r\n');
  await first;
  await assert.rejects(line.ask('DELE 1'), { kind: 'protocol' });
});

test('the end of the connection in any place: no message without its terminator', async () => {
  const wholly = '+OK\r\nline\r\n..dot\r\n.\r\n';
  for (let length = 0; length < wholly.length; length += 1) {
    using line = wire();
    const all = outcomes([line.fetch('RETR 1'), line.ask('DELE 1')]);
    await until(() => line.writes.length > 0);
    line.say(wholly.slice(0, length));
    line.remote.end();
    assert.deepEqual(await all, ['closed', 'closed'], `after ${length} octets`);
  }
});

test('a reset connection, and one that is dropped by us', async () => {
  using line = wire();
  const all = outcomes([line.fetch('RETR 1'), line.ask('DELE 1')]);
  line.engine.close(new Pop3Error('enough', { kind: 'closed' }));
  assert.deepEqual(await all, ['closed', 'closed']);
  await assert.rejects(line.ask('NOOP'), { message: 'enough' });
});

const STALLS: readonly [name: string, said: string][] = [
  ['no answer', ''],
  ['half a reply', '+O'],
  ['a reply and no message', '+OK\r\n'],
  ['half a message', '+OK\r\nabc\r\ndef'],
  ['half a terminator', '+OK\r\nabc\r\n.\r'],
];

for (const [name, said] of STALLS) {
  test(`a stall: ${name}`, async () => {
    using line = wire({ timeout: 40 });
    const all = outcomes([line.fetch('RETR 1'), line.ask('NOOP')]);
    await until(() => line.writes.length > 0);
    line.say(said);
    assert.deepEqual(await all, ['timeout', 'timeout']);
  });
}

test('octets of a message restart the deadline, octets of a reply line do not', async () => {
  using slow = wire({ timeout: 120 });
  const message = slow.fetch('RETR 1');
  await until(() => slow.writes.length > 0);
  slow.say('+OK\r\n');
  for (let sent = 0; sent < 10; sent += 1) {
    await sleep(25);
    slow.say('x');
  }
  slow.say('\r\n.\r\n');
  assert.equal(await message, 'xxxxxxxxxx\r\n');

  using dripping = wire({ timeout: 60 });
  const [outcome] = [outcomes([dripping.ask('NOOP')])];
  await until(() => dripping.writes.length > 0);
  dripping.say('+OK ');
  while (!dripping.engine.closed) {
    await sleep(10);
    if (!dripping.engine.closed) dripping.say('x');
  }
  assert.deepEqual(await outcome, ['timeout']);
});

test('lists have limits', async () => {
  for (const [lines, octets, kind] of [
    [3, 1000, 'ok'],
    [2, 1000, 'protocol'],
    [3, 10, 'protocol'],
  ] as const) {
    using line = wire();
    const taken: string[] = [];
    const take = (one: Buffer): void => void taken.push(one.toString());
    const all = outcomes([
      line.engine.send({ line: 'UIDL', shown: 'UIDL', body: { kind: 'lines', take, lines, octets } }),
    ]);
    await until(() => line.writes.length > 0);
    line.say('+OK\r\n1 aa\r\n2 bb\r\n..3\r\n.\r\n', 1);
    assert.deepEqual(await all, [kind]);
    if (kind === 'ok') assert.deepEqual(taken, ['1 aa', '2 bb', '.3']);
  }
});

test('the socket goes to TLS only if the server has said no word too many', async () => {
  using clean = wire({ pipelining: false });
  const stls = clean.ask('STLS');
  await until(() => clean.writes.length > 0);
  clean.say('+OK\r\n');
  await stls;
  assert.equal(clean.engine.release().isPaused(), true);
  clean.engine.close(new Pop3Error('done', { kind: 'closed' }));

  using injected = wire({ pipelining: false });
  const all = outcomes([injected.ask('STLS')]);
  await until(() => injected.writes.length > 0);
  injected.say('+OK\r\n+OK logged in\r\n');
  assert.deepEqual(await all, ['ok']);
  assert.throws(() => injected.engine.release(), Pop3Error);
  assert.equal(injected.engine.closed, true);
});

test('the transcript shows no secret and no message', async () => {
  using line = wire();
  const all = outcomes([
    line.engine.send({ line: 'PASS hunter2', shown: 'PASS [secret]', body: NO_BODY }),
    line.fetch('RETR 1'),
  ]);
  await until(() => line.writes.length > 0);
  line.say('+OK\r\n+OK 9 octets\r\nprivate\r\n.\r\n');
  await all;
  assert.deepEqual(line.lines, ['C: PASS [secret]', 'C: RETR 1', 'S: +OK', 'S: +OK 9 octets']);
});
