import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { MaildirConfig } from '../../src/config/types.ts';
import { openMaildir } from '../../src/delivery/maildir.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { deliveryOf, storedMessage } from '../support/stored.ts';
import { tempDir } from '../support/temp.ts';

assertNoLeaks();

const MAIL = 'Subject: hello\r\n\r\nHello.\r\n.\r\nlone\rand\nno end';
const context = { hostName: 'ferry.test', now: () => new Date() };

async function maildir(changes: Partial<MaildirConfig> = {}): Promise<MaildirConfig> {
  const path = join(await tempDir(), 'Maildir');
  return {
    name: 'home',
    type: 'maildir',
    concurrency: 3,
    timeout: 5000,
    path,
    flags: '',
    lineEnds: 'crlf',
    ...changes,
  };
}

async function filesIn(config: MaildirConfig, folder: string): Promise<string[]> {
  return readdir(join(config.path, folder));
}

suite('a Maildir', { concurrency: true }, () => {
  for (const streamed of [false, true]) {
    test(`gets the octets, under a new name, for its owner alone (${streamed ? 'stream' : 'memory'})`, async () => {
      const config = await maildir();
      const outcome = await openMaildir(config, context).deliver(deliveryOf(storedMessage(MAIL, { streamed })));
      assert.equal(outcome.kind, 'confirmed', outcome.said);
      const [file = ''] = await filesIn(config, 'new');
      assert.equal(outcome.said, `new/${file}`);
      assert.match(file, /^1767323045\.key_0123456789-abcdef\.ferry\.test$/);
      const path = join(config.path, 'new', file);
      assert.equal((await readFile(path)).toString('latin1'), MAIL);
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      assert.deepEqual(await filesIn(config, 'tmp'), []);
      assert.deepEqual(await filesIn(config, 'cur'), []);
    });
  }

  test('takes flags', async () => {
    const config = await maildir({ flags: 'S' });
    await openMaildir(config, context).deliver(deliveryOf(storedMessage(MAIL)));
    assert.match((await filesIn(config, 'cur'))[0] ?? '', /:2,S$/);
  });

  test('stores LF where that is wanted, whatever the chunks', async () => {
    const config = await maildir({ lineEnds: 'lf' });
    const mail = `Subject: x\r\n\r\n${'a\r\n'.repeat(40_000)}\r\r\nend\r`;
    await openMaildir(config, context).deliver(deliveryOf(storedMessage(mail, { streamed: true })));
    const [file = ''] = await filesIn(config, 'new');
    assert.equal((await readFile(join(config.path, 'new', file))).toString('latin1'), mail.replaceAll('\r\n', '\n'));
  });

  test('has one copy after two attempts at one delivery, wherever the first has gone', async () => {
    const config = await maildir();
    const destination = openMaildir(config, context);
    await destination.deliver(deliveryOf(storedMessage(MAIL)));
    const again = await destination.deliver(deliveryOf(storedMessage(MAIL), { attempt: 2 }));
    assert.match(again.said, /^new\/.*of an earlier attempt/);
    const [file = ''] = await filesIn(config, 'new');
    await writeFile(join(config.path, 'cur', `${file}:2,RS`), MAIL);
    assert.equal((await filesIn(config, 'new')).length, 1);
  });

  test('that cannot be written to defers, and is about the destination', async () => {
    const config = await maildir();
    await writeFile(config.path, 'a file is in the way');
    const destination = openMaildir(config, context);
    const outcome = await destination.deliver(deliveryOf(storedMessage(MAIL)));
    assert.deepEqual([outcome.kind, outcome.scope], ['deferred', 'destination']);
    await assert.rejects(destination.check(new AbortController().signal), { code: 'maildir.write' });
  });

  test('never shows half a message', async () => {
    const config = await maildir();
    const destination = openMaildir(config, context);
    const message = storedMessage(MAIL, { streamed: true });
    const outcome = await destination.deliver(deliveryOf({ ...message, size: message.size + 1 }));
    assert.equal(outcome.kind, 'deferred');
    const stopped = await destination.deliver(deliveryOf(message, { signal: AbortSignal.abort(new Error('stopped')) }));
    assert.deepEqual([stopped.kind, stopped.said], ['deferred', 'stopped']);
    for (const folder of ['tmp', 'new', 'cur']) assert.deepEqual(await filesIn(config, folder), []);
  });

  test('is swept of what crashes left, and of nothing else', async () => {
    const config = await maildir();
    const tmp = join(config.path, 'tmp');
    await mkdir(tmp, { recursive: true });
    const old = new Date(Date.now() - 40 * 3_600_000);
    const names = ['1.key.host.77-1', '1.key.host.77-2', 'somebody.else'];
    for (const name of names) await writeFile(join(tmp, name), 'x');
    await utimes(join(tmp, '1.key.host.77-1'), old, old);
    await utimes(join(tmp, 'somebody.else'), old, old);
    await openMaildir(config, context).deliver(deliveryOf(storedMessage(MAIL)));
    assert.deepEqual((await filesIn(config, 'tmp')).sort(), ['1.key.host.77-2', 'somebody.else']);
  });
});
