// The plan, the states and the outcomes as one small machine, explored at random beside a simulated maildrop and simulated
// destinations: crashes between any two durable writes, lost replies to QUIT, outcomes of every kind, listings that miss
// messages, unique-ids that lie, change, or stand for messages that nothing but their bodies tell apart.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Outcome } from '../../src/delivery/destination.ts';
import { fingerprintOf } from '../../src/mail/fingerprint.ts';
import { entryKey, isSame, mayDelete, startDelivery, step } from '../../src/sync/entry.ts';
import type { Entry, Identity } from '../../src/sync/entry.ts';
import { Assignments } from '../../src/sync/identity.ts';
import type { Evidence } from '../../src/sync/identity.ts';
import { decide, isQuiet, plan } from '../../src/sync/plan.ts';
import type { PlanInput, Policy, Retrieval } from '../../src/sync/plan.ts';
import { released, settle } from '../../src/sync/settle.ts';
import { recognise } from '../../src/sync/transfer.ts';
import type { TransferTools } from '../../src/sync/transfer.ts';
import { seeded } from '../support/corpus.ts';
import { storedMessage } from '../support/stored.ts';

const RUNS = Number(process.env['MODEL_RUNS'] ?? 120);
const DESTINATIONS = ['a', 'b'];

class Crash extends Error {}

interface Mail {
  /** What it is: the octets. No two of a run are equal but copies made on purpose; all other sizes differ. */
  readonly octets: Buffer;
  uniqueId: string;
}

/** What the ledger does, durable at once. A crash keeps it and loses everything else. */
class MemoryLedger {
  readonly groups = new Map<string, Entry[]>();

  group(uniqueId: string): readonly Entry[] {
    return this.groups.get(uniqueId) ?? [];
  }

  get(identity: Identity): Entry | undefined {
    return this.group(identity.uniqueId).find((entry) => isSame(entry, identity));
  }

  put(before: Entry | undefined, after: Entry): void {
    const group = [...this.group(after.uniqueId)];
    const at = before === undefined ? -1 : group.findIndex((entry) => entryKey(entry) === entryKey(before));
    if (at < 0) group.push(after);
    else group[at] = after;
    this.groups.set(after.uniqueId, group);
  }

  forget(entry: Entry): void {
    const left = this.group(entry.uniqueId).filter((each) => entryKey(each) !== entryKey(entry));
    if (left.length > 0) this.groups.set(entry.uniqueId, left);
    else this.groups.delete(entry.uniqueId);
  }
}

class World {
  readonly random: () => number;
  readonly policy: Policy & { giveUpAfter: number; backoff: { base: number; cap: number } };
  readonly ledger = new MemoryLedger();
  readonly taken = new Map<string, number>();
  readonly doubts = new Map<string, number>();
  readonly arrived: Mail[] = [];
  maildrop: Mail[] = [];
  now = 1_800_000_000_000;
  polled = false;
  wasEmpty = false;
  /** Faults happen only while this holds. */
  rough = true;
  readonly hostile: boolean;
  #serial = 0;
  #listed = 0;

  /** @param hostile messages may be alike in all but their octets, and headers prove nothing */
  constructor(seed: number, retention: Policy['retention'], hostile: boolean) {
    this.random = seeded(seed);
    this.hostile = hostile;
    this.policy = {
      deliverTo: DESTINATIONS,
      retention,
      firstPoll: 'deliver',
      maxMessageSize: 1_000_000,
      maxMessagesPerPoll: 5,
      giveUpAfter: 1e12,
      backoff: { base: 1000, cap: 2000 },
    };
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  /** New mail; now and then with the unique-id of another message, as popa3d and Solid give them, or one of before. */
  arrive(): void {
    this.#serial += 1;
    const other = this.chance(0.4) ? this.arrived[Math.floor(this.random() * this.arrived.length)] : undefined;
    const fate = this.hostile ? this.random() : 1;
    const body = `${'x'.repeat(this.#serial)}\r\n`;
    const headerOf = ({ octets }: Mail): string => octets.toString('latin1').split('\r\n\r\n')[0] ?? '';
    const id = fate > 0.8 || !this.hostile ? `Message-ID: <${this.#serial}@x>` : 'From: cron';
    // The same header over another body, the very same octets, or another message altogether.
    const header = other && fate < 0.3 ? headerOf(other) : `${id}\r\nSubject: s`;
    const octets = other && fate < 0.1 ? other.octets : Buffer.from(`${header}\r\n\r\n${body}`);
    const mail = { octets, uniqueId: other?.uniqueId ?? `u${this.#serial}` };
    this.maildrop.push(mail);
    this.arrived.push(mail);
  }

  /** A provider moves: every unique-id changes. */
  move(): void {
    this.#serial += 1;
    for (const mail of this.maildrop) mail.uniqueId = `${mail.uniqueId}-${this.#serial}`;
  }

  /** A person lets everything go on that waits for one. */
  release(): void {
    for (const entry of [...this.ledger.groups.values()].flat())
      if (entry.state === 'quarantined') this.ledger.put(entry, released(entry));
  }

  /** What the server shows: now and then nothing, or not all. */
  #listing(): Mail[] {
    if (!this.rough || !this.chance(0.08)) return this.maildrop;
    // One message in the place of another with its unique-id and its whole header is taken for it: all agree but their bodies.
    return this.hostile || this.chance(0.5) ? [] : this.maildrop.filter(() => this.chance(0.6));
  }

  write(action: () => void): void {
    action();
    if (this.rough && this.chance(0.01)) throw new Crash();
  }

  poll(): void {
    const session = this.#listing().map((mail, index) => ({ mail, messageNumber: index + 1 }));
    const deleted = new Set<Mail>();
    const sent: Entry[] = [];
    const todo = this.#plan(session);
    for (const { before, after } of todo.put) this.write(() => this.ledger.put(before, after));
    for (const entry of todo.forget) this.write(() => this.ledger.forget(entry));
    this.polled = true;
    const assigned = new Assignments();
    for (const [messageNumber, entry] of todo.known) assigned.set(entry, messageNumber);
    const mailOf = (messageNumber: number): Mail => session[messageNumber - 1]?.mail as Mail;
    const remove = (messageNumber: number, entry: Entry): void => {
      assert.ok(mayDelete(entry));
      const now = this.ledger.get(entry) as Entry;
      this.write(() => this.ledger.put(now, step(now, 'deleting')));
      deleted.add(mailOf(messageNumber));
      sent.push(entry);
    };
    for (const { row, entry } of todo.delete) remove(row.messageNumber, entry);
    for (const retrieval of todo.retrieve) {
      const entry = this.#transfer(retrieval, mailOf(retrieval.row.messageNumber), assigned);
      const action = decide(entry, this.#view());
      if (action.do === 'put') this.write(() => this.ledger.put(entry, action.entry));
      if (action.do === 'delete') remove(retrieval.row.messageNumber, action.entry);
    }
    this.#quit(deleted, sent);
  }

  #plan(session: readonly { mail: Mail; messageNumber: number }[]): ReturnType<typeof plan> {
    const rows = session.map(({ mail, messageNumber }) => ({
      messageNumber,
      uniqueId: mail.uniqueId,
      size: mail.octets.length,
    }));
    const counts = new Map<string, number>();
    for (const { uniqueId } of rows) counts.set(uniqueId, (counts.get(uniqueId) ?? 0) + 1);
    const isHushed = ({ uniqueId, size }: { uniqueId: string; size: number }): boolean => {
      const [only, ...more] = this.ledger.group(uniqueId);
      return (
        only !== undefined &&
        more.length === 0 &&
        counts.get(uniqueId) === 1 &&
        isQuiet(only, size, this.policy, this.now)
      );
    };
    const quiet = rows.filter(isHushed);
    const hushed = new Set(quiet.map(({ uniqueId }) => uniqueId));
    const evidence = new Map<number, Evidence>();
    const input: PlanInput = {
      ...this.#view(),
      first: !this.polled,
      rows: rows.filter(({ uniqueId }) => !hushed.has(uniqueId)),
      quiet: quiet.length,
      wasEmpty: this.wasEmpty,
      entries: new Map([...this.ledger.groups].filter(([uniqueId]) => !hushed.has(uniqueId))),
      evidence,
    };
    this.#listed = rows.length;
    for (let rounds = 0; rounds < 5; rounds += 1) {
      const todo = plan(input);
      if (todo.identify.length === 0) return todo;
      for (const { messageNumber } of todo.identify) {
        const mail = session[messageNumber - 1]?.mail;
        if (mail) evidence.set(messageNumber, { fingerprint: fingerprintOf(mail.octets) });
      }
    }
    throw new Error('the plan asks for fingerprints for ever');
  }

  #view(): Pick<PlanInput, 'policy' | 'now' | 'opensAt' | 'inFlight'> {
    return { policy: this.policy, now: this.now, opensAt: () => 0, inFlight: () => false };
  }

  #transfer(retrieval: Retrieval, mail: Mail, assigned: Assignments): Entry {
    const message = storedMessage(mail.octets);
    const tools = { hold: { ledger: this.ledger }, now: () => this.now } as unknown as TransferTools;
    const { before, entry } = recognise(retrieval, message, tools, assigned);
    const action = decide(entry, this.#view());
    const due = action.do === 'retrieve' ? action.destinations : [];
    for (const name of due) if (entry.deliveries[name]?.state === 'started') this.#doubt(name, mail);
    const started = due.reduce((each, name) => startDelivery(each, name, this.now), entry);
    this.write(() => this.ledger.put(before, started));
    for (const name of due) {
      const outcome = this.#attempt(name, mail);
      const now = this.ledger.get(started) as Entry;
      this.write(() => this.ledger.put(now, settle(now, name, outcome, this.policy, this.now, this.random())));
    }
    return this.ledger.get(started) as Entry;
  }

  #attempt(name: string, mail: Mail): Outcome {
    const fate = this.rough ? this.random() : 0;
    const isTaken = fate < 0.7 || (fate < 0.8 && this.chance(0.5));
    if (isTaken) this.taken.set(key(name, mail), (this.taken.get(key(name, mail)) ?? 0) + 1);
    if (this.rough && this.chance(0.02)) throw new Crash();
    if (fate < 0.7) return { kind: 'confirmed', said: '250', scope: 'message' };
    if (fate < 0.8) {
      this.#doubt(name, mail);
      return { kind: 'inDoubt', said: 'cut', scope: 'message' };
    }
    return { kind: fate > 0.95 ? 'rejected' : 'deferred', said: 'no', scope: 'message' };
  }

  #doubt(name: string, mail: Mail): void {
    this.doubts.set(key(name, mail), (this.doubts.get(key(name, mail)) ?? 0) + 1);
  }

  #quit(deleted: ReadonlySet<Mail>, sent: readonly Entry[]): void {
    const fate = this.rough ? this.random() : 0;
    const isCommitted = fate < 0.85 || fate > 0.95;
    if (isCommitted) {
      for (const mail of deleted) {
        for (const name of DESTINATIONS)
          assert.ok(
            (this.taken.get(key(name, mail)) ?? 0) >= 1,
            `${mail.uniqueId} is deleted and ${name} never had it`,
          );
      }
      this.maildrop = this.maildrop.filter((mail) => !deleted.has(mail));
    }
    // -ERR, or no reply although the server has deleted: nothing is known.
    this.wasEmpty = this.#listed === (fate < 0.85 ? deleted.size : 0);
    if (fate >= 0.85) return;
    for (const marked of sent) {
      const entry = this.ledger.get(marked) as Entry;
      this.write(() => this.ledger.put(entry, step(entry, 'deleted')));
    }
  }
}

function key(name: string, { octets }: Mail): string {
  return `${name} ${octets.toString('latin1')}`;
}

interface Course {
  readonly retention: Policy['retention'];
  readonly hostile?: boolean;
  readonly moves?: boolean;
}

function explore(seed: number, { retention, hostile = false, moves = false }: Course): World {
  const world = new World(seed, retention, hostile);
  const visit = (): void => {
    world.now += world.rough ? 5000 : 3_600_000;
    if (world.chance(0.2) || !world.rough) world.release();
    try {
      world.poll();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
    }
  };
  for (let round = 0; round < 40; round += 1) {
    while (world.chance(0.5)) world.arrive();
    // In the middle of other faults nobody can tell a move; and a few messages are no maildrop.
    if (moves && world.maildrop.length >= 10 && world.chance(0.2)) {
      world.rough = false;
      visit();
      world.move();
      visit();
      world.rough = true;
    }
    visit();
  }
  world.rough = false;
  for (let round = 0; round < 60; round += 1) visit();
  return world;
}

const COURSES: readonly [name: string, course: Course][] = [
  ['deleted', { retention: 'delete' }],
  ['kept', { retention: 'keep' }],
  ['deleted after a while', { retention: { deleteAfter: 20_000 } }],
  ['deleted, and nothing but the octets tells messages apart', { retention: 'delete', hostile: true }],
  ['kept, and nothing but the octets tells messages apart', { retention: 'keep', hostile: true }],
  ['kept, and the provider moves', { retention: 'keep', moves: true }],
];

suite('the machine as a whole', () => {
  for (const [name, course] of COURSES) {
    test(`${RUNS} random histories, ${name}: nothing lost, nothing repeated but in doubt`, () => {
      for (let seed = 1; seed <= RUNS; seed += 1) hold(seed, course, explore(seed, course));
    });
  }
});

function hold(seed: number, { retention }: Course, world: World): void {
  for (const mail of world.arrived) {
    const copies = world.arrived.filter(({ octets }) => octets.equals(mail.octets)).length;
    for (const name of DESTINATIONS) {
      const taken = world.taken.get(key(name, mail)) ?? 0;
      const doubts = world.doubts.get(key(name, mail)) ?? 0;
      const what = `seed ${seed}: ${name}, ${mail.uniqueId}`;
      assert.ok(taken >= 1, `${what}: never delivered`);
      assert.ok(taken <= copies + doubts, `${what}: delivered ${taken} times, ${copies} copies, ${doubts} doubts`);
    }
  }
  assert.equal(world.maildrop.length, retention === 'keep' ? world.arrived.length : 0, `seed ${seed}`);
  if (retention !== 'keep') assert.equal(world.ledger.groups.size, 0, `seed ${seed}: rows are left in the ledger`);
}
