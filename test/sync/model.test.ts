// The plan, the states and the outcomes as one small machine, explored at random beside a simulated maildrop and simulated
// destinations: crashes between any two durable writes, lost replies to QUIT, outcomes of every kind, unique-ids that lie.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import type { Outcome } from '../../src/delivery/destination.ts';
import { fingerprintOf } from '../../src/mail/fingerprint.ts';
import type { StoredMessage } from '../../src/mail/message.ts';
import { entryKey, mayDelete, startDelivery, step } from '../../src/sync/entry.ts';
import type { Entry } from '../../src/sync/entry.ts';
import type { Evidence } from '../../src/sync/identity.ts';
import { decide, isQuiet, plan } from '../../src/sync/plan.ts';
import type { PlanInput, Policy, Retrieval } from '../../src/sync/plan.ts';
import { settle } from '../../src/sync/settle.ts';
import { recognise } from '../../src/sync/transfer.ts';
import type { TransferTools } from '../../src/sync/transfer.ts';
import { seeded } from '../support/corpus.ts';

const RUNS = Number(process.env['MODEL_RUNS'] ?? 400);
const DESTINATIONS = ['a', 'b'];

class Crash extends Error {}

interface Mail {
  /** What it is: the octets. No two of a run are equal but copies made on purpose. */
  readonly octets: Buffer;
  uniqueId: string;
}

/** What the ledger does, durable at once. A crash keeps it and loses everything else. */
class MemoryLedger {
  readonly groups = new Map<string, Entry[]>();

  group(uniqueId: string): readonly Entry[] {
    return this.groups.get(uniqueId) ?? [];
  }

  get(key: string): Entry | undefined {
    return this.group(key.slice(0, key.indexOf('\n'))).find((entry) => entryKey(entry) === key);
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
  #serial = 0;

  constructor(seed: number, retention: Policy['retention']) {
    this.random = seeded(seed);
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
    const other = this.chance(0.25) ? this.arrived[Math.floor(this.random() * this.arrived.length)] : undefined;
    const octets = Buffer.from(
      `Message-ID: <${this.#serial}@x>\r\nSubject: s\r\n\r\n${'x'.repeat(Math.floor(this.random() * 40))}\r\n`,
    );
    const mail = { octets, uniqueId: other?.uniqueId ?? `u${this.#serial}` };
    this.maildrop.push(mail);
    this.arrived.push(mail);
  }

  write(action: () => void): void {
    action();
    if (this.rough && this.chance(0.01)) throw new Crash();
  }

  poll(): void {
    const session = this.maildrop.map((mail, index) => ({ mail, messageNumber: index + 1 }));
    const deleted = new Set<Mail>();
    const sent: string[] = [];
    const todo = this.#plan(session);
    for (const { before, after } of todo.put) this.write(() => this.ledger.put(before, after));
    for (const entry of todo.forget) this.write(() => this.ledger.forget(entry));
    this.polled = true;
    const assigned = new Map<string, number>();
    for (const [messageNumber, entry] of todo.known) assigned.set(entryKey(entry), messageNumber);
    const mailOf = (messageNumber: number): Mail => session[messageNumber - 1]?.mail as Mail;
    const remove = (messageNumber: number, entry: Entry): void => {
      assert.ok(mayDelete(entry));
      const now = this.ledger.get(entryKey(entry)) as Entry;
      this.write(() => this.ledger.put(now, step(now, 'deleting')));
      deleted.add(mailOf(messageNumber));
      sent.push(entryKey(entry));
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
    this.wasEmpty = rows.length === 0;
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

  #transfer(retrieval: Retrieval, mail: Mail, assigned: Map<string, number>): Entry {
    const message = stored(mail.octets);
    const tools = { hold: { ledger: this.ledger }, now: () => this.now } as unknown as TransferTools;
    const { before, entry } = recognise(retrieval, message, tools, assigned);
    const action = decide(entry, this.#view());
    const due = action.do === 'retrieve' ? action.destinations : [];
    for (const name of due) if (entry.deliveries[name]?.state === 'started') this.#doubt(name, mail);
    const started = due.reduce((each, name) => startDelivery(each, name, this.now), entry);
    this.write(() => this.ledger.put(before, started));
    for (const name of due) {
      const outcome = this.#attempt(name, mail);
      const now = this.ledger.get(entryKey(started)) as Entry;
      this.write(() => this.ledger.put(now, settle(now, name, outcome, this.policy, this.now, this.random())));
    }
    return this.ledger.get(entryKey(started)) as Entry;
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
    return { kind: 'deferred', said: '451', scope: 'message' };
  }

  #doubt(name: string, mail: Mail): void {
    this.doubts.set(key(name, mail), (this.doubts.get(key(name, mail)) ?? 0) + 1);
  }

  #quit(deleted: ReadonlySet<Mail>, sent: readonly string[]): void {
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
    if (fate >= 0.85) return;
    for (const sentKey of sent) {
      const entry = this.ledger.get(sentKey) as Entry;
      this.write(() => this.ledger.put(entry, step(entry, 'deleted')));
    }
  }
}

function key(name: string, { octets }: Mail): string {
  return `${name} ${octets.toString('latin1')}`;
}

function stored(octets: Buffer): StoredMessage {
  const sha256 = createHash('sha256').update(octets).digest('hex');
  const header = octets.subarray(0, octets.indexOf('\r\n\r\n') + 4);
  return { size: octets.length, sha256, header, bytes: octets } as StoredMessage;
}

function explore(seed: number, retention: Policy['retention']): World {
  const world = new World(seed, retention);
  const visit = (): void => {
    world.now += 5000;
    try {
      world.poll();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
    }
  };
  for (let round = 0; round < 40; round += 1) {
    while (world.chance(0.5)) world.arrive();
    visit();
  }
  world.rough = false;
  for (let round = 0; round < 60; round += 1) visit();
  return world;
}

suite('the machine as a whole', () => {
  for (const retention of ['delete', 'keep'] as const) {
    test(`${RUNS} random histories, ${retention}: nothing lost, nothing repeated but in doubt`, () => {
      for (let seed = 1; seed <= RUNS; seed += 1) {
        const world = explore(seed, retention);
        for (const mail of world.arrived) {
          for (const name of DESTINATIONS) {
            const taken = world.taken.get(key(name, mail)) ?? 0;
            const doubts = world.doubts.get(key(name, mail)) ?? 0;
            assert.ok(taken >= 1, `seed ${seed}: ${name} never got ${mail.uniqueId}`);
            assert.ok(
              taken <= 1 + doubts,
              `seed ${seed}: ${name} got ${mail.uniqueId} ${taken} times with ${doubts} doubts`,
            );
          }
        }
        assert.equal(world.maildrop.length, retention === 'delete' ? 0 : world.arrived.length, `seed ${seed}`);
        if (retention === 'delete')
          assert.equal(world.ledger.groups.size, 0, `seed ${seed}: rows are left in the ledger`);
      }
    });
  }
});
