/**
 * A scriptable POP3 server on a real socket of 127.0.0.1, in this process. Deletes count only at QUIT.
 *
 *     await using server = await startPop3Server({ pipelining: 'off' });           // or startPop3Server({}, testContext)
 *     const drop = server.drop('jane');                                            // password: secret
 *     drop.add('Subject: one\r\n\r\nbody\r\n', { octets, uniqueId: 'twin', size: 7 }); // also while it runs
 *     server.rule({ on: /^PASS/, times: 1, reply: '-ERR [IN-USE] later' });        // see `Rule` in pop3-session.ts
 *     server.rule({ on: /^QUIT/, cutAfter: 0, still: true });                      // commits, but does not say so
 *     server.behaviour.chunk = 1;                                                  // see `Behaviour` there
 *     ... Pop3Client.open({ host: server.host, port: server.port, ... })
 *     server.sessions.at(-1)?.commands; drop.committed; drop.retrieved
 */

import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { createSecureContext, createServer as createTlsServer } from 'node:tls';
import { Maildrop } from './pop3-maildrop.ts';
import { Session } from './pop3-session.ts';
import type { Behaviour, Rule, SessionLog } from './pop3-session.ts';
import type { Owner } from './temp.ts';
import { certificate } from './tls.ts';
import type { CertificateName } from './tls.ts';

export interface Pop3ServerOptions extends Partial<Behaviour> {
  /** Implicit TLS; STLS is `stls`. Default false. */
  readonly tls?: boolean;
  /** Default `server`, right for localhost. */
  readonly certificate?: CertificateName;
  /** Users and their passwords or tokens. Default `{ jane: 'secret' }`. */
  readonly users?: Readonly<Record<string, string>>;
}

const DEFAULTS: Behaviour = {
  greeting: '+OK ready',
  capabilities: undefined,
  pipelining: 'on',
  sasl: [],
  user: true,
  stls: false,
  uidl: true,
  top: true,
  locks: true,
  loginDelay: 0,
  expireZero: false,
  utf8: 'none',
  languages: [],
  chunk: 0,
  delay: 0,
  rules: [],
};

export class Pop3Server {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly behaviour: Behaviour;
  readonly #drops: ReadonlyMap<string, Maildrop>;
  readonly #server: Server;
  readonly #sessions: readonly Session[];

  constructor(
    server: Server,
    behaviour: Behaviour,
    drops: ReadonlyMap<string, Maildrop>,
    sessions: readonly Session[],
  ) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    this.behaviour = behaviour;
    this.#drops = drops;
    this.#sessions = sessions;
  }

  drop(user = 'jane'): Maildrop {
    const drop = this.#drops.get(user);
    if (!drop) throw new Error(`the POP3 server has no user ${user}`);
    return drop;
  }

  /** Adds a rule in front of the others. @returns what takes it away */
  rule(rule: Rule): () => void {
    const { rules } = this.behaviour;
    rules.unshift(rule);
    return () => void rules.splice(rules.indexOf(rule), 1);
  }

  /** All sessions since the start, oldest first. */
  get sessions(): readonly SessionLog[] {
    return this.#sessions.map(({ log }) => log);
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#sessions.filter(({ isOpen }) => isOpen).length;
  }

  /** How many commands of all sessions match. */
  count(command: RegExp): number {
    return this.sessions.reduce((sum, { commands }) => sum + commands.filter((line) => command.test(line)).length, 0);
  }

  /** Drops all connections now. */
  dropAll(): void {
    for (const session of this.#sessions) session.destroy();
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.dropAll();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** Starts a server, stopped with `owner` if there is one. */
export async function startPop3Server(options: Pop3ServerOptions = {}, owner?: Owner): Promise<Pop3Server> {
  const { tls = false, certificate: name = 'server', users = { jane: 'secret' }, ...changes } = options;
  const behaviour: Behaviour = { ...DEFAULTS, ...changes, rules: [...(changes.rules ?? [])] };
  const drops = new Map(Object.entries(users).map(([user, secret]) => [user, new Maildrop(user, secret)]));
  const sessions: Session[] = [];
  const pair = certificate(name);
  const context = createSecureContext(pair);
  const accept = (socket: Socket): void => void sessions.push(new Session(socket, behaviour, drops, context));
  const server = tls
    ? createTlsServer({ ...pair, allowHalfOpen: true }, accept)
    : createServer({ allowHalfOpen: true }, accept);
  // a client that breaks off the handshake
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const running = new Pop3Server(server, behaviour, drops, sessions);
  owner?.after(() => running.stop());
  return running;
}
