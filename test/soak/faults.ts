/** What goes wrong in a soak run, drawn from a seed: servers that cut, stall, refuse and hang up, on both sides of mailferry. */

import type { HttpAction, HttpSink } from '../support/http-sink.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import type { Rule } from '../support/pop3-session.ts';
import type { SmtpAction, SmtpSink, SmtpStage } from '../support/smtp-sink.ts';

const POP3: readonly Rule[] = [
  { on: /^RETR/, cutAfter: 100 },
  { on: /^RETR/, resetAfter: 300 },
  { on: /^RETR/, stallAfter: 50 },
  { on: /^RETR/, reply: '-ERR cannot read it' },
  { on: /^PASS/, reply: '-ERR [SYS/TEMP] later' },
  { on: /^PASS/, reply: '-ERR [IN-USE] later' },
  { on: /^(UIDL|LIST)$/, cutAfter: 20 },
  { on: /^DELE/, reply: '-ERR no' },
  { on: /^DELE/, cutAfter: 0, still: true },
  { on: /^QUIT/, cutAfter: 0, still: true },
  { on: /^QUIT/, cutAfter: 0 },
  { on: /^QUIT/, reply: '-ERR some deleted messages not removed' },
];
const SMTP: readonly { readonly stage: SmtpStage; readonly action: SmtpAction }[] = [
  { stage: 'connect', action: { reply: [421, '4.3.2 later'] } },
  { stage: 'mail', action: { reply: [451, '4.3.0 later'] } },
  { stage: 'rcpt', action: { reply: [450, '4.2.0 later'] } },
  { stage: 'body', action: 'drop' },
  { stage: 'end', action: { reply: [452, '4.2.2 later'] } },
  { stage: 'end', action: 'drop' },
];
const HTTP: readonly HttpAction[] = [
  { status: 503 },
  { status: 429, headers: { 'retry-after': '30' } },
  'dropAtHeader',
  'dropAfterBody',
];

interface Servers {
  readonly pop3: Pop3Server;
  readonly inbox: SmtpSink;
  readonly hook: HttpSink;
}

export class Faults {
  readonly #servers: Servers;
  readonly #random: () => number;
  readonly #lifts: (() => void)[] = [];
  /** So far. */
  count = 0;
  /** Times at which a destination hung up on all: what it had just taken may not have been told. */
  hangUps = 0;

  constructor(servers: Servers, random: () => number) {
    this.#servers = servers;
    this.#random = random;
  }

  /** One more, which strikes up to four times. */
  strike(): void {
    const { pop3, inbox, hook } = this.#servers;
    this.count += 1;
    const times = 1 + Math.floor(this.#random() * 4);
    const where = this.#random();
    if (where < 0.4) this.#lifts.push(pop3.rule({ ...this.#oneOf(POP3), times }));
    else if (where < 0.65) this.#lifts.push(inbox.when({ ...this.#oneOf(SMTP), times }));
    else if (where < 0.9) this.#lifts.push(hook.when({ action: this.#oneOf(HTTP), times }));
    else if (where < 0.94) pop3.dropAll();
    else {
      this.hangUps += 1;
      if (where < 0.97) inbox.dropAll();
      else hook.dropAll();
    }
  }

  /** From here on all servers behave. */
  end(): void {
    for (const lift of this.#lifts) lift();
    this.#servers.pop3.behaviour.rules.length = 0;
  }

  #oneOf<T>(all: readonly T[]): T {
    return all[Math.floor(this.#random() * all.length)] as T;
  }
}
