/**
 * Where retrieved messages lie while they are delivered: small ones in memory, larger ones in a file of mode 0600 under
 * `dataDir/spool`, gone after use and swept at start. Losing the spool loses nothing: the message is still on its server.
 */

import { createHash, hash, randomBytes } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import type { FileHandle, FileReadResult } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { Readable } from 'node:stream';
import { Failure, reasonOf } from '../failure.ts';
import { endOfHeader, HEADER_LIMIT } from '../mail/header.ts';
import { Surveyor } from '../mail/line-ends.ts';
import type { StoredMessage } from '../mail/message.ts';

/** Messages up to this many octets stay in memory. */
export const MEMORY_LIMIT = 256 * 1024;
/** What is gathered before one write to the file. */
const WRITE_SIZE = 512 * 1024;
const READ_SIZE = 128 * 1024;
/** Octets of large messages between two sweeps of their buffers. */
const SWEEP_EVERY = 8 * 1024 * 1024;
/** Tells this process from all that had its id before: in a container every worker has the same one. */
const LIFE = randomBytes(6).toString('hex');
let serial = 0;

export class Spool {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Makes the folder, and sweeps what processes that are gone left there. @throws Failure if it cannot be written */
  static async open(dataDir: string): Promise<Spool> {
    const folder = join(dataDir, 'spool');
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      for (const name of await readdir(folder)) {
        if (isLeftOver(name)) await rm(join(folder, name), { force: true });
      }
    } catch (error) {
      throw diskFailure(folder, error);
    }
    return new Spool(folder);
  }

  /** A place for one message that is about to be retrieved. */
  receive(): Receiver {
    serial += 1;
    return new Receiver(`${this.#folder}${sep}${process.pid}-${LIFE}-${serial}`);
  }
}

/** Takes the octets of one message; nothing counts until `finish`. Satisfies the POP3 client's sink. */
export class Receiver {
  readonly #path: string;
  /** Of a message that is too large for memory; a small one is looked at when it is whole. */
  #whole: Hash | undefined;
  /** Once the end of the header was seen. */
  #body: Hash | undefined;
  readonly #surveyor = new Surveyor();
  #chunks: Buffer[] = [];
  #gathered = 0;
  #header: Buffer[] = [];
  #headerSize = 0;
  /** The last octets before the next piece. */
  #tail: Buffer = Buffer.alloc(0);
  #headerDone = false;
  #size = 0;
  #file: FileHandle | undefined;
  #made = false;
  #spilling: Promise<void> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** A promise where the disk has to keep up; the octets must not change afterwards. @throws Failure if the disk is full */
  write(chunk: Buffer): void | Promise<void> {
    this.#size += chunk.length;
    this.#chunks.push(chunk);
    this.#gathered += chunk.length;
    if (this.#size <= MEMORY_LIMIT) return undefined;
    if (this.#whole) this.#look(chunk);
    else this.#lookAtAll();
    return this.#gathered >= WRITE_SIZE ? this.#spill() : undefined;
  }

  /** The message, now that its terminator was seen. @throws Failure if the disk is full; then nothing is left of it */
  async finish(): Promise<StoredMessage> {
    if (this.#whole) return await this.#finishFile(this.#whole);
    const bytes = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
    this.#chunks = [];
    const end = endOfHeader(bytes);
    const header = end < 0 ? bytes : bytes.subarray(0, end);
    const sha256 = hash('sha256', bytes);
    const bodySha256 = end < 0 ? sha256 : hash('sha256', bytes.subarray(end));
    return new Message({ size: this.#size, sha256, bodySha256, header }, bytes, this.#path);
  }

  async #finishFile(whole: Hash): Promise<StoredMessage> {
    try {
      await this.#spill();
      await this.#close();
    } catch (error) {
      await this.discard();
      throw diskFailure(this.#path, error);
    }
    const collected = Buffer.concat(this.#header);
    const end = endOfHeader(collected);
    const header = collected.subarray(0, Math.min(end < 0 ? collected.length : end, HEADER_LIMIT));
    this.#header = [];
    const sha256 = whole.digest('hex');
    const bodySha256 = this.#body?.digest('hex') ?? sha256;
    const known = { size: this.#size, sha256, bodySha256, header, survey: this.#surveyor.result() };
    return new Message(known, undefined, this.#path);
  }

  /** Gives everything back after a retrieval that failed. */
  async discard(): Promise<void> {
    // Whatever it was that failed, a write under way must not come after the removal.
    await this.#spilling?.catch((error: unknown) => error);
    this.#chunks = [];
    this.#header = [];
    if (!this.#made) return;
    // What is thrown away may fail to be written: it is only to be gone.
    await this.#close().catch((error: unknown) => error);
    await rm(this.#path, { force: true });
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /** Writes what is gathered, one write after the other: pieces come faster than the disk takes them. */
  async #spill(): Promise<void> {
    const before = this.#spilling;
    this.#spilling = (async () => {
      await before;
      await this.#spillOnce();
    })();
    await this.#spilling;
  }

  async #spillOnce(): Promise<void> {
    try {
      this.#file ??= await open(this.#path, 'wx', 0o600);
      this.#made = true;
      const chunks = this.#chunks;
      this.#chunks = [];
      this.#gathered = 0;
      await writeAll(this.#file, chunks);
    } catch (error) {
      throw diskFailure(this.#path, error);
    }
  }

  #lookAtAll(): void {
    this.#whole = createHash('sha256');
    for (const chunk of this.#chunks) this.#look(chunk);
  }

  #look(chunk: Buffer): void {
    this.#whole?.update(chunk);
    this.#surveyor.add(chunk);
    if (this.#headerDone) this.#body?.update(chunk);
    else this.#gatherHeader(chunk);
  }

  #gatherHeader(chunk: Buffer): void {
    this.#header.push(chunk);
    this.#headerSize += chunk.length;
    // The empty line may lie across pieces, however small they are.
    const seen = Buffer.concat([this.#tail, chunk]);
    const isStart = this.#headerSize === seen.length;
    const end = isStart ? endOfHeader(seen) : seen.indexOf('\r\n\r\n') + 4;
    // An index of -1 makes 3.
    const isOver = isStart ? end >= 0 : end >= 4;
    if (isOver) this.#body = createHash('sha256').update(seen.subarray(end));
    this.#headerDone = isOver || this.#headerSize >= HEADER_LIMIT;
    this.#tail = seen.subarray(-3);
  }
}

type Known = Pick<StoredMessage, 'size' | 'sha256' | 'bodySha256' | 'header' | 'survey'>;

class Message implements StoredMessage {
  readonly size: number;
  readonly sha256: string;
  readonly bodySha256: string;
  readonly header: Buffer;
  readonly survey: StoredMessage['survey'];
  bytes: Buffer | undefined;
  readonly #path: string;

  constructor({ size, sha256, bodySha256, header, survey }: Known, bytes: Buffer | undefined, path: string) {
    this.size = size;
    this.sha256 = sha256;
    this.bodySha256 = bodySha256;
    this.header = header;
    this.survey = survey;
    this.bytes = bytes;
    this.#path = path;
  }

  open(): Readable {
    if (this.bytes) return Readable.from([this.bytes]);
    return Readable.from(readInPieces(this.#path), { objectMode: false, highWaterMark: READ_SIZE });
  }

  async *pieces(): AsyncGenerator<Buffer, void, undefined> {
    if (this.bytes) {
      yield this.bytes;
      return;
    }
    const file = await open(this.#path, 'r');
    let reading: Promise<FileReadResult<Buffer>> | undefined;
    try {
      // One is read while the other is used.
      let [room, other] = [Buffer.allocUnsafeSlow(READ_SIZE), Buffer.allocUnsafeSlow(READ_SIZE)];
      reading = file.read(room, 0, room.length);
      for (;;) {
        const { bytesRead } = await reading;
        if (bytesRead === 0) return;
        reading = file.read(other, 0, other.length);
        yield room.subarray(0, bytesRead);
        [room, other] = [other, room];
      }
    } finally {
      // Who has seen enough does not wait for the rest, but the file must not be closed under a read.
      await reading?.catch((error: unknown) => error);
      await file.close();
    }
  }

  async release(): Promise<void> {
    if (this.bytes) this.bytes = undefined;
    else await rm(this.#path, { force: true });
  }
}

/** Writes everything: a disk that fills up takes a part, and says so only when it is asked to take the rest. */
async function writeAll(file: FileHandle, chunks: readonly Buffer[]): Promise<void> {
  let left = chunks;
  while (left.length > 0) {
    const { bytesWritten } = await file.writev(left);
    streamed(bytesWritten);
    left = behind(left, bytesWritten);
  }
}

/** What of these pieces lies behind that many octets. */
function behind(chunks: readonly Buffer[], octets: number): Buffer[] {
  let skip = octets;
  return chunks.flatMap((chunk) => {
    const left = chunk.subarray(Math.min(skip, chunk.length));
    skip -= Math.min(skip, chunk.length);
    return left.length > 0 ? [left] : [];
  });
}

async function* readInPieces(path: string): AsyncGenerator<Buffer> {
  for await (const piece of createReadStream(path, { highWaterMark: READ_SIZE })) {
    streamed((piece as Buffer).length);
    yield piece as Buffer;
  }
}

let sinceSweep = 0;
let sweeps = 0;

/**
 * Large messages are made of buffers that live for a moment. V8 would let some 100 MB of them lie around; where it may be asked
 * to (`--expose-gc`), it sweeps the young ones every few megabytes, which takes about a millisecond.
 */
function streamed(octets: number): void {
  sinceSweep += octets;
  if (sinceSweep < SWEEP_EVERY) return;
  sinceSweep = 0;
  sweeps += 1;
  // Buffers that were in use during two sweeps count as old, and are found by a thorough one alone.
  globalThis.gc?.({ type: sweeps % 4 === 0 ? 'major' : 'minor', execution: 'sync' });
}

function diskFailure(path: string, error: unknown): Failure {
  if (error instanceof Failure) return error;
  return new Failure(`Cannot write to ${path}: ${reasonOf(error)}`, {
    scope: 'process',
    code: 'spool.write',
    remedy:
      'Make room on the disk, or check that the user mailferry runs as may write there. Nothing is lost: mail waits on its server.',
    cause: error,
  });
}

/** True of a file that nobody alive has made: `PID-LIFE-SERIAL`. */
function isLeftOver(name: string): boolean {
  const [pid, life] = name.split('-');
  return Number(pid) === process.pid ? life !== LIFE : !isAlive(Number(pid));
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
