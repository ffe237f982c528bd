import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import type { StoredMessage } from '../../src/mail/message.ts';
import { Spool } from '../../src/store/spool.ts';
import { tempDir } from '../support/temp.ts';

function split(octets: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    if (at >= octets.length) break;
    pieces.push(octets.subarray(at, at + size));
    at += size;
  }
  if (at < octets.length) pieces.push(octets.subarray(at));
  return pieces;
}

async function large(spool: Spool, octets: Buffer): Promise<StoredMessage> {
  const receiver = spool.receive();
  const sizes = Array.from({ length: 100 }, () => 60_000);
  try {
    for (const piece of split(octets, sizes)) await receiver.write(piece);
  } catch (error) {
    await receiver.discard();
    throw error;
  }
  return await receiver.finish();
}

suite('the spool', () => {
  test('small mail in memory, large mail in a file that only we read; the octets as they came', async (t) => {
    const dataDir = await tempDir(t);
    const spool = await Spool.open(dataDir);
    assert.equal((await stat(join(dataDir, 'spool'))).mode & 0o777, 0o700);
    for (const size of [0, 1, 1000, 256 * 1024, 256 * 1024 + 1, 3_000_000]) {
      const octets = Buffer.concat([Buffer.from('A: b\r\n\r\n'), randomBytes(size)]).subarray(0, size);
      const receiver = spool.receive();
      // As the client does it: pieces come in one turn, whether earlier writes have ended or not.
      await Promise.all(
        split(
          octets,
          Array.from({ length: 60 }, () => 60_000),
        ).map(async (piece) => await receiver.write(piece)),
      );
      const message = await receiver.finish();
      assert.equal(message.size, size);
      assert.equal(message.sha256, createHash('sha256').update(octets).digest('hex'));
      assert.ok(
        octets.equals(await buffer(message.open())) && octets.equals(await buffer(message.open())),
        'as often as asked for',
      );
      assert.equal(message.bytes === undefined, size > 256 * 1024);
      for (const name of await readdir(join(dataDir, 'spool')))
        assert.equal((await stat(join(dataDir, 'spool', name))).mode & 0o777, 0o600);
      await message.release();
      await message.release();
      assert.deepEqual(await readdir(join(dataDir, 'spool')), []);
    }
  });

  test('the header is found wherever the network cuts', async (t) => {
    const spool = await Spool.open(await tempDir(t));
    const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
    const cases = [
      ['Subject: s\r\nTo: t\r\n\r\n', 'body\r\n\r\nmore\r\n'],
      ['Subject: s\r\n\r\n', ''],
      ['\r\n', '\r\nbody\r\n'],
      ['\r\n', ''],
    ] as const;
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...cases),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 10, maxLength: 40 }),
        async ([header, body], sizes) => {
          const receiver = spool.receive();
          for (const piece of split(Buffer.from(header + body), sizes)) await receiver.write(piece);
          const message = await receiver.finish();
          assert.equal(message.header.toString(), header);
          assert.equal(message.bodySha256, sha256(body));
          assert.equal(message.sha256, sha256(header + body));
        },
      ),
    );
    const receiver = spool.receive();
    await receiver.write(Buffer.from('no: end\r\n'));
    const { sha256: whole, bodySha256 } = await receiver.finish();
    assert.equal(bodySha256, whole, 'without an end of the header, all octets count');
  });

  test('a retrieval that failed leaves nothing', async (t) => {
    const dataDir = await tempDir(t);
    const spool = await Spool.open(dataDir);
    const receiver = spool.receive();
    void receiver.write(randomBytes(2_000_000));
    await receiver.discard();
    assert.deepEqual(await readdir(join(dataDir, 'spool')), []);
  });

  test('what a killed process left is swept; what a living one has is not', async (t) => {
    const dataDir = await tempDir(t);
    await Spool.open(dataDir);
    await writeFile(join(dataDir, 'spool/4194300-1'), 'left');
    await writeFile(join(dataDir, `spool/${process.ppid}-ab-77`), 'in use');
    // In a container, the worker that was killed had the id that this one has.
    await writeFile(join(dataDir, `spool/${process.pid}-ab-1`), 'left');
    const spool = await Spool.open(dataDir);
    const message = await large(spool, randomBytes(600_000));
    await Spool.open(dataDir);
    assert.equal((await readdir(join(dataDir, 'spool'))).length, 2);
    await message.release();
    assert.deepEqual(await readdir(join(dataDir, 'spool')), [`${process.ppid}-ab-77`]);
  });

  test('a disk that is full: no message, nothing left, and all well once there is room', async (t) => {
    // Registered first, so that it runs before the folder is removed.
    t.after(() => spawnSync('umount', [dataDir]));
    const dataDir = await tempDir(t);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=900k', 'tmpfs', dataDir]).status !== 0) {
      t.skip('tmpfs can be mounted by root only');
      return;
    }
    const spool = await Spool.open(dataDir);
    const folder = join(dataDir, 'spool');
    // The last write is the one that the disk takes a part of; a later piece is refused at once; both at the same time.
    for (const size of [1_000_000, 3_000_000]) {
      await assert.rejects(large(spool, randomBytes(size)), { code: 'spool.write', scope: 'process' });
      assert.deepEqual(await readdir(folder), []);
    }
    await writeFile(join(dataDir, 'ballast'), Buffer.alloc(500_000));
    await assert.rejects(large(spool, randomBytes(600_000)), { code: 'spool.write' });
    await rm(join(dataDir, 'ballast'));
    const octets = randomBytes(600_000);
    const message = await large(spool, octets);
    assert.ok(octets.equals(await buffer(message.open())));
    await message.release();
    assert.deepEqual(await readdir(folder), []);
  });

  test('a disk that takes writes in part, by a limit on file sizes: never a message cut short', async (t) => {
    const dataDir = await tempDir(t);
    const program = `
      import { Spool } from '${join(import.meta.dirname, '../../src/store/spool.ts')}';
      process.on('SIGXFSZ', () => {});
      const receiver = (await Spool.open(process.argv[1])).receive();
      try {
        for (let at = 0; at < 12; at += 1) await receiver.write(Buffer.alloc(60_000, 97));
        const { size } = await receiver.finish();
        process.stdout.write('took ' + size);
      } catch (error) {
        process.stdout.write(error.code);
      }`;
    const limited = spawnSync(
      'bash',
      ['-c', 'ulimit -f 600; exec "$0" --input-type=module -e "$1" "$2"', process.execPath, program, dataDir],
      { encoding: 'utf8' },
    );
    assert.equal(limited.stdout, 'spool.write', limited.stderr);
    assert.deepEqual(await readdir(join(dataDir, 'spool')), []);
  });

  test('a folder that cannot be written says so', async (t) => {
    const file = join(await tempDir(t), 'file');
    await writeFile(file, '');
    await assert.rejects(Spool.open(file), { code: 'spool.write' });
  });
});
