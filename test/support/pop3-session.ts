/** One connection of the scriptable POP3 server (`pop3-server.ts`): RFC 1939, CAPA, STLS, AUTH, UTF8, and what the rules spoil. */

import { createHash, createHmac } from 'node:crypto';
import type { Socket } from 'node:net';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { sizeOf, stuffed, topOf } from './pop3-maildrop.ts';
import type { Maildrop, TestMessage } from './pop3-maildrop.ts';

/** How the server behaves; may be changed while it runs. */
export interface Behaviour {
  /** Default `+OK ready`. With a msg-id in it APOP works. */
  greeting: string;
  /** In place of what CAPA would say by the other options; undefined as a result: -ERR. */
  capabilities: ((state: SessionState) => readonly string[] | undefined) | undefined;
  /** `off`: what comes behind a command in one packet is lost. `afterLogin`: what comes behind PASS or AUTH is. */
  pipelining: 'on' | 'off' | 'afterLogin';
  /** SASL mechanisms: PLAIN, LOGIN, CRAM-MD5, XOAUTH2, OAUTHBEARER. */
  sasl: readonly string[];
  user: boolean;
  stls: boolean;
  uidl: boolean;
  top: boolean;
  /** A maildrop that is open is refused to others. */
  locks: boolean;
  /** Seconds between two logins, enforced. */
  loginDelay: number;
  /** EXPIRE 0: QUIT deletes what was retrieved. */
  expireZero: boolean;
  /** RFC 6856: `offered`, or `demanded` for LIST, TOP and RETR. */
  utf8: 'none' | 'offered' | 'demanded';
  /** Languages of LANG; empty: no LANG. */
  languages: readonly string[];
  /** Octets a write; 0: no limit. */
  chunk: number;
  /** Before each answer, in milliseconds. */
  delay: number;
  /** The first that matches a command line (the greeting: an empty line) decides; one with `times` is used up. */
  rules: Rule[];
}

export interface SessionState {
  readonly secured: boolean;
  readonly loggedIn: boolean;
}

export interface Rule {
  /** Against the command line as sent: `/^RETR 3$/`. The greeting is the empty line, answers within AUTH are `AUTH*`. */
  readonly on: RegExp;
  /** How often it applies; left out: always. */
  times?: number;
  /** Answers this (CRLF is added), and does not do what was asked, unless `still` is set. */
  readonly reply?: string;
  /** Answers these octets, as they are. */
  readonly raw?: string | Buffer;
  /** Does what was asked although the answer is another. */
  readonly still?: boolean;
  /** Sent behind the answer at once, as it is. */
  readonly append?: string;
  /** Ends the connection after so many octets of the answer; 0: instead of an answer. What was asked is not done, unless `still`. */
  readonly cutAfter?: number;
  /** The same by a reset. */
  readonly resetAfter?: number;
  /** Says no more after so many octets of the answer. */
  readonly stallAfter?: number;
  /** Milliseconds before the answer. */
  readonly delay?: number;
  /** Octets a write, for this answer. */
  readonly chunk?: number;
}

/** What a session did, for assertions. */
export interface SessionLog {
  /** Lines as they came, secrets and all. */
  readonly commands: string[];
  user: string | undefined;
  secured: boolean;
  /** `quit` only if QUIT was answered with +OK. */
  end: 'open' | 'quit' | 'dropped';
}

interface Answer {
  readonly octets: Buffer;
  /** Done when the answer is certain to be said. */
  readonly effect?: () => void;
  readonly after?: 'close' | 'tls';
}

export class Session {
  readonly log: SessionLog = { commands: [], user: undefined, secured: false, end: 'open' };
  readonly #behaviour: Behaviour;
  readonly #drops: ReadonlyMap<string, Maildrop>;
  readonly #context: SecureContext;
  #socket: Socket;
  #input = '';
  #busy = false;
  #stalled = false;
  #user = '';
  #drop: Maildrop | undefined;
  #listed: TestMessage[] = [];
  readonly #deleted = new Set<TestMessage>();
  readonly #retrieved = new Set<TestMessage>();
  #utf8 = false;
  /** Takes the next line in place of a command: an exchange of AUTH. */
  #next: ((line: string) => Answer) | undefined;

  constructor(socket: Socket, behaviour: Behaviour, drops: ReadonlyMap<string, Maildrop>, context: SecureContext) {
    this.#socket = socket;
    this.#behaviour = behaviour;
    this.#drops = drops;
    this.#context = context;
    this.log.secured = socket instanceof TLSSocket;
    this.#attach();
    void this.#greet();
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  /** Drops the connection now. */
  destroy(): void {
    this.#socket.destroy();
  }

  #attach(): void {
    const socket = this.#socket;
    socket.setNoDelay(true);
    socket.on('data', this.#onData);
    socket.on('error', () => socket.destroy());
    socket.on('end', () => {
      // a half-close ends the session once all is answered; after STLS the TLS socket sees to it
      if (socket === this.#socket) socket.end();
    });
    socket.on('close', () => {
      if (socket !== this.#socket) return;
      if (this.log.end === 'open') this.log.end = 'dropped';
      this.#unlock();
    });
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#input += chunk.toString('latin1');
    void this.#work();
  };

  #unlock(): void {
    if (this.#drop) {
      this.#drop.locked = false;
      this.#drop.lastLogin = performance.now();
    }
    this.#drop = undefined;
  }

  async #greet(): Promise<void> {
    this.#busy = true;
    await this.#run('', () => ({ octets: Buffer.from(`${this.#behaviour.greeting}\r\n`, 'latin1') }));
    this.#busy = false;
    await this.#work();
  }

  /** One command after the other, as long as there are whole lines. */
  async #work(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    for (let end = this.#input.indexOf('\n'); end >= 0 && this.#isUsable; end = this.#input.indexOf('\n')) {
      const line = this.#input.slice(0, end).replace(/\r$/, '');
      this.#input = this.#input.slice(end + 1);
      const { pipelining } = this.#behaviour;
      if (pipelining === 'off' || (pipelining === 'afterLogin' && /^(PASS|AUTH) /i.test(line))) this.#input = '';
      this.log.commands.push(line);
      const next = this.#next;
      this.#next = undefined;
      if (next) await this.#run('AUTH*', () => next(line));
      else await this.#run(line, () => this.#answer(line));
    }
    this.#busy = false;
  }

  get #isUsable(): boolean {
    return !this.#stalled && this.#socket.writable;
  }

  /** Answers, as the rules have it. */
  async #run(line: string, ask: () => Answer): Promise<void> {
    const rule = this.#rule(line);
    const isReplaced = rule?.reply !== undefined || rule?.raw !== undefined;
    const limit = rule?.cutAfter ?? rule?.resetAfter ?? rule?.stallAfter;
    const answer: Answer = isReplaced && rule.still !== true ? { octets: Buffer.alloc(0) } : ask();
    const said = rule?.reply === undefined ? rule?.raw : `${rule.reply}\r\n`;
    let octets = said === undefined ? answer.octets : Buffer.from(said as string, 'latin1');
    if (rule?.append !== undefined) octets = Buffer.concat([octets, Buffer.from(rule.append, 'latin1')]);
    if (limit === undefined || rule?.still === true) answer.effect?.();
    await this.#wait(rule?.delay ?? this.#behaviour.delay);
    await this.#write(octets.subarray(0, limit), rule?.chunk ?? this.#behaviour.chunk);
    if (rule?.cutAfter !== undefined) this.#socket.destroySoon();
    else if (rule?.resetAfter !== undefined) this.#socket.resetAndDestroy();
    else if (rule?.stallAfter !== undefined) this.#stalled = true;
    else if (answer.after === 'close') this.#socket.end();
    else if (answer.after === 'tls') this.#startTls();
  }

  #rule(line: string): Rule | undefined {
    const rule = this.#behaviour.rules.find(({ on, times }) => times !== 0 && on.test(line));
    if (rule?.times !== undefined) rule.times -= 1;
    return rule;
  }

  async #wait(milliseconds: number): Promise<void> {
    if (milliseconds > 0) await sleep(milliseconds, undefined, { ref: false });
  }

  async #write(octets: Buffer, chunk: number): Promise<void> {
    if (octets.length === 0 || !this.#socket.writable) return;
    const size = chunk > 0 ? chunk : octets.length;
    for (let at = 0; at < octets.length && this.#socket.writable; at += size) {
      const piece = octets.subarray(at, at + size);
      await new Promise<void>((resolve) => {
        this.#socket.once('close', resolve);
        this.#socket.write(piece, () => {
          this.#socket.off('close', resolve);
          resolve();
        });
      });
      if (chunk > 0) await turn();
    }
  }

  #startTls(): void {
    const plain = this.#socket.off('data', this.#onData);
    this.#input = '';
    this.#socket = new TLSSocket(plain, { isServer: true, secureContext: this.#context });
    this.log.secured = true;
    this.#attach();
  }

  #answer(line: string): Answer {
    const [verb = '', ...args] = line.split(' ');
    const command = verb.toUpperCase();
    if (command === 'QUIT') return this.#quit();
    if (command === 'CAPA') return this.#capa();
    if (command === 'LANG' && this.#behaviour.languages.length > 0) return this.#lang(args[0]);
    return this.#drop ? this.#transaction(command, args, this.#drop) : this.#authorization(command, args, line);
  }

  #capa(): Answer {
    const { capabilities, ...behaviour } = this.#behaviour;
    const loggedIn = this.#drop !== undefined;
    const secured = this.#socket instanceof TLSSocket;
    const lines = capabilities
      ? capabilities({ secured, loggedIn })
      : [
          ...(behaviour.top ? ['TOP'] : []),
          ...(behaviour.uidl ? ['UIDL'] : []),
          'RESP-CODES',
          'AUTH-RESP-CODE',
          ...(behaviour.pipelining === 'off' ? [] : ['PIPELINING']),
          ...(behaviour.user ? ['USER'] : []),
          ...(behaviour.sasl.length > 0 ? [`SASL ${behaviour.sasl.join(' ')}`] : []),
          ...(behaviour.stls && !secured && !loggedIn ? ['STLS'] : []),
          ...(behaviour.loginDelay > 0 ? [`LOGIN-DELAY ${String(behaviour.loginDelay)}`] : []),
          ...(behaviour.expireZero ? ['EXPIRE 0'] : []),
          ...(behaviour.utf8 === 'none' ? [] : ['UTF8']),
          ...(behaviour.languages.length > 0 ? ['LANG'] : []),
          'IMPLEMENTATION mailferry-test',
        ];
    return lines ? list(lines) : err('what?');
  }

  #lang(tag: string | undefined): Answer {
    const { languages } = this.#behaviour;
    if (tag === undefined) return list(languages.map((language) => `${language} ${language}`));
    return tag === '*' || languages.includes(tag) ? ok(`${tag} spoken`) : err('invalid language tag');
  }

  #quit(): Answer {
    const drop = this.#drop;
    return {
      ...ok('bye'),
      after: 'close',
      effect: () => {
        this.log.end = 'quit';
        if (this.#behaviour.expireZero) for (const one of this.#retrieved) this.#deleted.add(one);
        drop?.commit(this.#deleted);
        this.#unlock();
      },
    };
  }

  #authorization(command: string, args: readonly string[], line: string): Answer {
    const { stls, user, utf8, sasl } = this.#behaviour;
    if (command === 'STLS' && stls && !(this.#socket instanceof TLSSocket)) return { ...ok('go on'), after: 'tls' };
    if (command === 'UTF8' && utf8 !== 'none') return { ...ok('UTF8'), effect: () => (this.#utf8 = true) };
    if (command === 'USER' && user) return { ...ok(''), effect: () => (this.#user = args.join(' ')) };
    if (command === 'PASS' && user) return this.#login(this.#user, (drop) => drop.secret === line.slice(5));
    if (command === 'APOP') {
      const [stamp = ''] = /<[^<>]+@[^<>]+>/.exec(this.#behaviour.greeting) ?? [];
      const digest = (secret: string): string =>
        createHash('md5')
          .update(stamp + secret)
          .digest('hex');
      return this.#login(args[0] ?? '', (drop) => stamp !== '' && digest(drop.secret) === args[1]);
    }
    if (command === 'AUTH' && sasl.includes((args[0] ?? '').toUpperCase())) return this.#auth(args);
    return err('unknown command');
  }

  #auth([mechanism = '', initial]: readonly string[]): Answer {
    const name = mechanism.toUpperCase();
    const ask = (challenge: string, then: (response: string) => Answer): Answer => {
      this.#next = (line) => (line === '*' ? err('cancelled') : then(Buffer.from(line, 'base64').toString()));
      return { octets: Buffer.from(`+ ${Buffer.from(challenge).toString('base64')}\r\n`) };
    };
    const first = (then: (response: string) => Answer): Answer =>
      initial === undefined ? ask('', then) : then(Buffer.from(initial, 'base64').toString());
    if (name === 'PLAIN')
      return first((response) => {
        const [, user = '', password] = response.split('\0');
        return this.#login(user, ({ secret }) => secret === password);
      });
    if (name === 'LOGIN')
      return ask('Username:', (user) =>
        ask('Password:', (password) => this.#login(user, ({ secret }) => secret === password)),
      );
    if (name === 'CRAM-MD5') {
      const challenge = '<1896.697170952@pop.example>';
      return ask(challenge, (response) => {
        const [user = '', digest] = response.split(' ');
        return this.#login(user, ({ secret }) => createHmac('md5', secret).update(challenge).digest('hex') === digest);
      });
    }
    return first((response) => {
      // `user=jane^Aauth=Bearer token^A^A`, or `n,a=jane,^Ahost=...^Aport=...^Aauth=Bearer token^A^A`
      const parts = response.split('\u0001');
      const user = /(?:^user=|,a=)([^,]*)/.exec(parts[0] ?? '')?.[1] ?? '';
      const token = parts.find((part) => part.startsWith('auth=Bearer '))?.slice('auth=Bearer '.length);
      if (this.#drops.get(user)?.secret === token) return this.#login(user, () => true);
      const error =
        name === 'XOAUTH2' ? { status: '401', schemes: 'bearer', scope: 'mail' } : { status: 'invalid_token' };
      return ask(JSON.stringify(error), () => err('[AUTH] token refused'));
    });
  }

  #login(user: string, isRight: (drop: Maildrop) => boolean): Answer {
    const drop = this.#drops.get(user);
    if (!drop || !isRight(drop)) return err('[AUTH] wrong user or password');
    if (this.#behaviour.locks && drop.locked) return err('[IN-USE] another session has it open');
    if (performance.now() - drop.lastLogin < this.#behaviour.loginDelay * 1000) return err('[LOGIN-DELAY] too early');
    return {
      ...ok(`${String(drop.messages.length)} messages`),
      effect: () => {
        drop.locked = true;
        this.#drop = drop;
        this.log.user = user;
        this.#listed = [...drop.messages];
      },
    };
  }

  #transaction(command: string, args: readonly string[], drop: Maildrop): Answer {
    const { uidl, top, utf8 } = this.#behaviour;
    const left = this.#listed.filter((one) => !this.#deleted.has(one));
    if (utf8 === 'demanded' && !this.#utf8 && /^(LIST|TOP|RETR)$/.test(command)) return err('[UTF8] say UTF8 first');
    if (command === 'NOOP') return ok('');
    if (command === 'STAT')
      return ok(`${String(left.length)} ${String(left.reduce((sum, one) => sum + sizeOf(one), 0))}`);
    if (command === 'RSET') return { ...ok(''), effect: () => this.#deleted.clear() };
    if ((command === 'UIDL' && !uidl) || (command === 'TOP' && !top)) return err('unknown command');
    if (command === 'UIDL' || command === 'LIST') {
      const shown = (one: TestMessage): string =>
        `${String(this.#listed.indexOf(one) + 1)} ${command === 'UIDL' ? one.uniqueId : String(sizeOf(one))}`;
      if (args[0] === undefined) return this.#listing(command);
      const one = this.#message(args[0]);
      return one ? ok(shown(one)) : err('no such message');
    }
    const message = this.#message(args[0]);
    if (!message) return err('no such message');
    if (command === 'DELE') return { ...ok('marked'), effect: () => this.#deleted.add(message) };
    if (command === 'TOP') return body(topOf(message.octets, Number(args[1] ?? 0)));
    if (command !== 'RETR') return err('unknown command');
    return {
      ...body(message.octets),
      effect: () => {
        this.#retrieved.add(message);
        drop.retrieved.set(message.uniqueId, (drop.retrieved.get(message.uniqueId) ?? 0) + 1);
      },
    };
  }

  #listing(command: 'UIDL' | 'LIST'): Answer {
    const lines: string[] = [];
    for (const [index, one] of this.#listed.entries())
      if (!this.#deleted.has(one))
        lines.push(`${String(index + 1)} ${command === 'UIDL' ? one.uniqueId : String(sizeOf(one))}`);
    return list(lines);
  }

  #message(number: string | undefined): TestMessage | undefined {
    const message = /^\d+$/.test(number ?? '') ? this.#listed[Number(number) - 1] : undefined;
    return message && !this.#deleted.has(message) ? message : undefined;
  }
}

function ok(text: string): Answer {
  return { octets: Buffer.from(`+OK${text === '' ? '' : ' '}${text}\r\n`, 'latin1') };
}

function err(text: string): Answer {
  return { octets: Buffer.from(`-ERR ${text}\r\n`, 'latin1') };
}

function list(lines: readonly string[]): Answer {
  return { octets: Buffer.from(['+OK', ...lines, '.', ''].join('\r\n'), 'latin1') };
}

function body(octets: Buffer): Answer {
  return { octets: Buffer.concat([Buffer.from('+OK message follows\r\n'), stuffed(octets)]) };
}
