/**
 * The demo: a sandbox maildrop, an SMTP server and a webhook in this process, and between them the real worker with its real
 * queue and its real embedded Redis, in a temporary folder that is gone afterwards.
 */

import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { openEngine } from '../app.ts';
import { loadConfig } from '../config/load.ts';
import { explainProblems } from '../config/explain.ts';
import { ProcessEvents } from '../ops/events.ts';
import { Worker } from '../worker.ts';
import { demoMail } from './mail.ts';
import type { DemoMessage } from './mail.ts';
import { Maildrop } from './maildrop.ts';
import { openSmtp, openWebhook } from './receivers.ts';
import type { Receiver } from './receivers.ts';

/** The demo gives up after this. Milliseconds. */
const TIME_LIMIT = 50_000;
/** Retries come in seconds here, not minutes, so that one can be watched. */
const BACKOFF = { base: 2000, cap: 4000 };

export interface DemoRow {
  readonly title: string;
  readonly octets: number;
  readonly sha256: string;
  /** How often each destination got exactly these octets. */
  readonly smtp: number;
  readonly webhook: number;
}

export interface DemoResult {
  readonly rows: readonly DemoRow[];
  /** Messages left in the maildrop. */
  readonly left: number;
  readonly ok: boolean;
}

/** A line of the worker's log about a message. */
export interface DemoEvent {
  readonly title: string;
  readonly event: string;
  readonly destination: string;
  readonly said: string;
}

/** Runs it. @param tell gets the story as it happens. @throws Failure if there is no redis-server */
export async function runDemo(tell: (event: DemoEvent) => void, stop: AbortSignal): Promise<DemoResult> {
  const mail = demoMail('sender.example');
  const titles = new Map(mail.map(({ title }, index) => [`demo-${index + 1}`, title]));
  const folder = await mkdtemp(join(tmpdir(), 'mailferry-demo-'));
  const secret = `whsec_${randomBytes(24).toString('base64')}`;
  const maildrop = await Maildrop.open(mail.map(({ octets }, index) => ({ uniqueId: `demo-${index + 1}`, octets })));
  const smtp = await openSmtp(greylisting(mail));
  const webhook = await openWebhook(secret);
  try {
    const path = join(folder, 'mailferry.yaml');
    await writeFile(path, configText(folder, maildrop.port, smtp.port, webhook.port, secret), { mode: 0o600 });
    await work(path, titles, tell, async () => {
      const end = performance.now() + TIME_LIMIT;
      while (!stop.aborted && performance.now() < end && maildrop.messages.length > 0) await sleep(50);
    });
    const rows = mail.map((message) => rowOf(message, smtp, webhook));
    const left = maildrop.messages.length;
    return { rows, left, ok: left === 0 && rows.every((row) => row.smtp === 1 && row.webhook === 1) };
  } finally {
    await Promise.all([maildrop.close(), smtp.close(), webhook.close()]);
    await rm(folder, { recursive: true, force: true });
  }
}

/** The real worker, until `done`. */
async function work(
  path: string,
  titles: ReadonlyMap<string, string>,
  tell: (event: DemoEvent) => void,
  done: () => Promise<void>,
): Promise<void> {
  const { config, problems } = await loadConfig(path, {}, '/');
  if (!config) throw new Error(explainProblems(problems, false));
  const log = pino({ level: 'info' }, { write: (line: string) => retell(line, titles, tell) });
  const events = new ProcessEvents(log);
  const engine = await openEngine(config, events, { deliveryBackoff: BACKOFF });
  const worker = new Worker(engine, events);
  try {
    await worker.start();
    await done();
  } finally {
    await worker.close();
    await engine.close();
  }
}

function retell(line: string, titles: ReadonlyMap<string, string>, tell: (event: DemoEvent) => void): void {
  const {
    msg,
    uniqueId,
    destination = '',
    said = '',
    reason = '',
    deleted = 0,
  } = JSON.parse(line) as Record<string, string>;
  const title = titles.get(uniqueId ?? '');
  if (title !== undefined) tell({ title, event: msg ?? '', destination, said: said || reason });
  else if (msg === 'polled' && Number(deleted) > 0)
    tell({
      title: '',
      event: `session ended with QUIT: ${deleted} deleted from the server`,
      destination: '',
      said: '',
    });
}

/** A server that says "later" to one message, once. */
function greylisting(mail: readonly DemoMessage[]): (octets: Buffer) => string | undefined {
  const waiting = new Set(mail.filter(({ deferredOnce }) => deferredOnce));
  return (octets) => {
    const found = [...waiting].find((message) => octets.includes(message.octets));
    if (!found) return undefined;
    waiting.delete(found);
    return '451 4.7.1 Greylisted, please try again later';
  };
}

function rowOf({ title, octets }: DemoMessage, smtp: Receiver, webhook: Receiver): DemoRow {
  const wanted = sha256(octets);
  return {
    title,
    octets: octets.length,
    sha256: wanted,
    // At SMTP one Received: field stands on top; what is below it must be the same.
    smtp: smtp.taken.filter((taken) => sha256(taken.subarray(Math.max(0, taken.length - octets.length))) === wanted)
      .length,
    webhook: webhook.taken.filter((taken) => sha256(taken) === wanted).length,
  };
}

function sha256(octets: Buffer): string {
  return createHash('sha256').update(octets).digest('hex');
}

function configText(folder: string, pop3: number, smtp: number, webhook: number, secret: string): string {
  return `dataDir: ${JSON.stringify(join(folder, 'data'))}
destinations:
  smtp: { type: smtp, host: 127.0.0.1, port: ${smtp}, security: none, to: [jane@new.example], from: jane@new.example }
  webhook: { type: webhook, url: "http://127.0.0.1:${webhook}/inbound", secret: ${secret}, format: raw, allowPrivate: true }
accounts:
  sandbox: { host: 127.0.0.1, port: ${pop3}, security: none, user: jane, password: sandbox, every: 10s, deliverTo: [smtp, webhook] }
`;
}
