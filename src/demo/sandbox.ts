/**
 * Everything around the worker: a maildrop with mail in it, an SMTP server and a webhook receiver, a temporary folder with
 * the config. It knows at the end what lay there and what arrived.
 */

import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { dateTime } from '../delivery/trace.ts';
import { arrivalOf, verdictOn } from './arrival.ts';
import type { Verdict } from './arrival.ts';
import { demoMail } from './mail.ts';
import type { DemoMail } from './mail.ts';
import { Maildrop } from './maildrop.ts';
import type { Tell } from './narrator.ts';
import { Scratch } from './scratch.ts';
import { SmtpReceiver } from './smtp-receiver.ts';
import { WebhookReceiver } from './webhook-receiver.ts';

export const ACCOUNT = 'old-isp';
const USER = 'jane';

/** Where the parts are. */
export interface Scene {
  readonly mail: readonly DemoMail[];
  readonly folder: string;
  readonly pop3: string;
  readonly smtp: string;
  readonly webhook: string;
}

/** What became of one message. */
export interface DemoRow {
  readonly title: string;
  readonly octets: number;
  /** Of what lay in the maildrop. */
  readonly sha256: string;
  readonly inbox: Verdict;
  readonly helpdesk: Verdict;
  readonly deleted: boolean;
}

interface Parts {
  readonly mail: readonly DemoMail[];
  readonly scratch: Scratch;
  readonly screen: Screen;
  readonly maildrop: Maildrop;
  readonly inbox: SmtpReceiver;
  readonly helpdesk: WebhookReceiver;
  /** Owns them all. */
  readonly stack: AsyncDisposableStack;
}

export class Sandbox implements AsyncDisposable {
  readonly configPath: string;
  readonly scene: Scene;
  readonly #parts: Parts;

  private constructor(parts: Parts) {
    const { mail, scratch, maildrop, inbox, helpdesk } = parts;
    this.#parts = parts;
    this.configPath = join(scratch.path, 'mailferry.yaml');
    this.scene = {
      mail,
      folder: scratch.path,
      pop3: `127.0.0.1:${String(maildrop.port)}`,
      smtp: `127.0.0.1:${String(inbox.port)}`,
      webhook: `http://127.0.0.1:${String(helpdesk.port)}/inbound`,
    };
  }

  /** @param tell is told what the maildrop sees */
  static async open(tell: Tell): Promise<Sandbox> {
    await using stack = new AsyncDisposableStack();
    const keep = <Part extends { close(): Promise<void> }>(part: Part): Part =>
      stack.adopt(part, async () => await part.close());
    const mail = demoMail(dateTime(new Date()));
    const screen = new Screen(mail);
    const secret = `whsec_${randomBytes(32).toString('base64')}`;
    const password = randomBytes(12).toString('base64url');
    const scratch = keep(await Scratch.create());
    const maildrop = keep(await Maildrop.open(mail, { user: USER, password, ...teller(tell) }));
    const inbox = keep(await SmtpReceiver.open((messageId) => screen.reply(messageId)));
    const helpdesk = keep(await WebhookReceiver.open(secret));
    const sandbox = new Sandbox({ mail, scratch, screen, maildrop, inbox, helpdesk, stack: stack.move() });
    await writeFile(sandbox.configPath, sandbox.#config(password, secret), { mode: 0o600 });
    return sandbox;
  }

  /** Messages in the maildrop now. */
  get left(): number {
    return this.#parts.maildrop.messages.length;
  }

  /** From now on the SMTP server takes what it refused: whoever runs it has been talked to. */
  lift(): void {
    this.#parts.screen.lift();
  }

  /** What became of each message so far. */
  rows(): DemoRow[] {
    const { mail, maildrop, inbox, helpdesk } = this.#parts;
    return mail.map((message) => ({
      title: message.title,
      octets: message.octets.length,
      sha256: arrivalOf(message.octets).sha256,
      inbox: verdictOn(message, inbox.arrivals),
      helpdesk: verdictOn(message, helpdesk.arrivals),
      deleted: !maildrop.messages.includes(message),
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.stack.disposeAsync();
  }

  /** The config as a person would write it. */
  #config(password: string, secret: string): string {
    const { maildrop, inbox, scratch } = this.#parts;
    const host = '127.0.0.1';
    const address = 'jane@new.example';
    return stringify({
      dataDir: scratch.dataDir,
      destinations: {
        inbox: { type: 'smtp', host, port: inbox.port, security: 'none', to: [address], from: address },
        helpdesk: { type: 'webhook', url: this.scene.webhook, secret, format: 'raw', allowPrivate: true },
      },
      accounts: {
        [ACCOUNT]: {
          host,
          port: maildrop.port,
          security: 'none',
          user: USER,
          password,
          every: '10s',
          deliverTo: ['inbox', 'helpdesk'],
        },
      },
    });
  }
}

/** What the SMTP server has against some of the mail. */
class Screen {
  readonly #deferred: Set<string>;
  readonly #refused: Set<string>;

  constructor(mail: readonly DemoMail[]) {
    const those = (atFirst: DemoMail['atFirst']): Set<string> =>
      new Set(mail.filter((message) => message.atFirst === atFirst).map(({ messageId }) => messageId));
    this.#deferred = those('deferred');
    this.#refused = those('refused');
  }

  reply(messageId: string): string | undefined {
    if (this.#deferred.delete(messageId)) return '451 4.7.1 greylisted, try again later';
    return this.#refused.has(messageId) ? '550 5.7.1 refused: looks like spam' : undefined;
  }

  lift(): void {
    this.#refused.clear();
  }
}

function teller(tell: Tell): Pick<Parameters<typeof Maildrop.open>[1], 'onRetrieved' | 'onDeleted'> {
  const retrieved = new Set<string>();
  return {
    onRetrieved({ uniqueId, octets }) {
      tell({ event: 'retrieved', uniqueId, octets: octets.length, again: retrieved.has(uniqueId) });
      retrieved.add(uniqueId);
    },
    onDeleted(messages) {
      for (const { uniqueId } of messages) tell({ event: 'deleted', uniqueId });
    },
  };
}
