/**
 * A scriptable SMTP (or LMTP) receiver on loopback for tests: npm's `smtp-server`, which ends a message at CRLF.CRLF only.
 *
 *   await using sink = await startSmtpSink({ size: 10_000_000 });
 *   sink.when({ stage: 'end', times: 1, action: { reply: [451, '4.3.0 try later'] } });
 *   ... deliver to sink.host : sink.port ...
 *   sink.messages[0].sha256BelowTrace    // what arrived, without the trace field on top
 *
 * Rules are asked in the order they were added; the first that fits acts. Without a rule everything is taken. Actions:
 * `{ reply: [code, text] }` answers that; `drop` ends the connection without a word; `stall` never answers (the sink still
 * closes); a function may wait and then give an action, or undefined for the usual answer.
 */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { SMTPServer } from 'smtp-server';
import type { SMTPServerDataStream, SMTPServerSession } from 'smtp-server';
import { certificate } from './tls.ts';
import type { CertificateName } from './tls.ts';
import { until } from './wait.ts';

/**
 * Where a rule acts: in place of the greeting; at AUTH; at MAIL FROM; at each RCPT TO; in the middle of the message, after
 * its first octets (`drop` and `stall` only); after the final dot, in place of its reply.
 */
export type SmtpStage = 'connect' | 'auth' | 'mail' | 'rcpt' | 'body' | 'end';

export type SmtpAction = { readonly reply: readonly [code: number, text: string] } | 'drop' | 'stall';

export interface SmtpMoment {
  /** The address of this MAIL FROM or RCPT TO, else the first recipient. */
  readonly address: string;
  /** The beginning of the message (64 KB), at `body` and `end`. */
  readonly head: string;
  /** Counts connections from 1. */
  readonly connection: number;
}

export interface SmtpRule {
  readonly stage: SmtpStage;
  /** Left out: always. */
  readonly if?: (moment: SmtpMoment) => boolean;
  /** How often it acts; left out: for ever. */
  readonly times?: number;
  readonly action: SmtpAction | ((moment: SmtpMoment) => Promise<SmtpAction | undefined>);
}

/** A message that got its 250. */
export interface SmtpMessage {
  readonly from: string;
  readonly to: readonly string[];
  /** Dot-unstuffed octets as they came, trace field included. */
  readonly size: number;
  readonly sha256: string;
  /** SHA-256 without the `Received: by ... (mailferry) ...` field on top; the same as `sha256` if there is none. */
  readonly sha256BelowTrace: string;
  /** The beginning, at most 64 KB. */
  readonly head: Buffer;
  /** All octets, if the sink was started with `keep`. */
  readonly bytes: Buffer | undefined;
  readonly secure: boolean;
  readonly user: string | undefined;
  /** SIZE as declared in MAIL FROM. */
  readonly declaredSize: number | undefined;
  readonly bodyType: string | undefined;
  readonly smtpUtf8: boolean;
  /** Counts connections from 1. */
  readonly connection: number;
}

export interface SmtpSinkOptions {
  readonly security?: 'tls' | 'starttls' | 'none';
  /** A PEM file: clients must show a certificate that this authority signed. */
  readonly clientAuthority?: string;
  /** Default `server`. */
  readonly certificate?: CertificateName;
  /** Then AUTH is required, with PLAIN, LOGIN and CRAM-MD5 on offer unless `methods` says otherwise. */
  readonly auth?: { readonly user: string; readonly password: string; readonly methods?: readonly string[] };
  /** Announced and enforced SIZE; default 10 GB. */
  readonly size?: number;
  readonly lmtp?: boolean;
  /** Keep all octets of each message, not only digests. */
  readonly keep?: boolean;
  /** Extensions not to offer. */
  readonly without?: readonly ('8BITMIME' | 'SMTPUTF8' | 'PIPELINING' | 'SIZE')[];
  /** A Unix socket to listen on instead of a port. */
  readonly path?: string;
  readonly maxClients?: number;
}

export interface SmtpSink extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** In order of their 250. */
  readonly messages: readonly SmtpMessage[];
  /** Connections opened so far, and those open now. */
  readonly connections: number;
  readonly open: number;
  /** The most transactions that were between MAIL FROM and the final reply at one time. */
  readonly peak: number;
  /** Adds a rule. Returns a function that takes it away. */
  when(rule: SmtpRule): () => void;
  /** Ends all connections that are open now, as a crash would. */
  dropAll(): void;
  /** Waits until so many messages have arrived. */
  arrived(count: number): Promise<readonly SmtpMessage[]>;
  close(): Promise<void>;
}

const HEAD = 64 * 1024;
const TRACE = /^Received: by [^\r\n]*\(mailferry\)[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*/;

/** Starts a sink on a free port. */
export async function startSmtpSink(options: SmtpSinkOptions = {}): Promise<SmtpSink> {
  const sink = new Sink(options);
  await sink.start();
  return sink;
}

type Reply = (error?: Error | null) => void;

class Sink implements SmtpSink {
  readonly host = '127.0.0.1';
  readonly messages: SmtpMessage[] = [];
  readonly #options: SmtpSinkOptions;
  readonly #server: SMTPServer;
  readonly #rules = new Map<SmtpRule, { left: number }>();
  readonly #sockets = new Map<number, Socket>();
  readonly #numbers = new Map<string, number>();
  readonly #busy = new Set<string>();
  connections = 0;
  peak = 0;

  constructor(options: SmtpSinkOptions) {
    this.#options = options;
    const security = options.security ?? 'none';
    const without = new Set(options.without ?? []);
    this.#server = new SMTPServer({
      ...certificate(options.certificate ?? 'server'),
      ...(options.clientAuthority === undefined
        ? {}
        : { ca: readFileSync(options.clientAuthority), requestCert: true, rejectUnauthorized: true }),
      secure: security === 'tls',
      disabledCommands: [
        ...(security === 'starttls' ? [] : ['STARTTLS']),
        ...(options.auth === undefined ? ['AUTH'] : []),
      ],
      authMethods: [...(options.auth?.methods ?? ['PLAIN', 'LOGIN', 'CRAM-MD5'])],
      allowInsecureAuth: security === 'none',
      authOptional: options.auth === undefined,
      disableReverseLookup: true,
      logger: false,
      lmtp: options.lmtp ?? false,
      hide8BITMIME: without.has('8BITMIME'),
      hideSMTPUTF8: without.has('SMTPUTF8'),
      hidePIPELINING: without.has('PIPELINING'),
      hideSize: without.has('SIZE'),
      socketTimeout: 120_000,
      closeTimeout: 200,
      size: options.size ?? 10_000_000_000,
      ...(options.maxClients === undefined ? {} : { maxClients: options.maxClients }),
      onConnect: (session, reply) => {
        this.connections++;
        this.#numbers.set(session.id, this.connections);
        this.#act('connect', session, '', '', reply);
      },
      onAuth: (auth, session, reply) => {
        const { user, password } = options.auth ?? { user: '', password: '' };
        this.#act('auth', session, '', '', (error) => {
          const right =
            auth.username === user &&
            (auth.method === 'CRAM-MD5' ? auth.validatePassword(password) : auth.password === password);
          if (error) reply(error);
          else if (right) reply(null, { user });
          else reply(refusal(535, '5.7.8 Authentication credentials invalid'));
        });
      },
      onMailFrom: (address, session, reply) => {
        this.#busy.add(session.id);
        this.peak = Math.max(this.peak, this.#busy.size);
        this.#act('mail', session, address.address, '', reply);
      },
      onRcptTo: (address, session, reply) => {
        this.#act('rcpt', session, address.address, '', reply);
      },
      onData: (stream, session, reply) => {
        this.#receive(stream, session).then(
          () => {
            this.#busy.delete(session.id);
            reply();
          },
          (error: unknown) => {
            this.#busy.delete(session.id);
            reply(error as Error);
          },
        );
      },
      onClose: (session) => this.#busy.delete(session.id),
    });
    this.#server.on('error', () => {
      // a client that hangs up in the middle is what many tests are about
    });
    this.#server.server.on('connection', (socket: Socket) => {
      const port = socket.remotePort ?? 0;
      this.#sockets.set(port, socket);
      socket.once('close', () => this.#sockets.delete(port));
    });
  }

  async start(): Promise<void> {
    if (this.#options.path === undefined) this.#server.listen(0, this.host);
    else this.#server.listen(this.#options.path);
    await once(this.#server.server, 'listening');
  }

  get port(): number {
    const address = this.#server.server.address();
    return typeof address === 'string' ? 0 : (address?.port ?? 0);
  }

  get open(): number {
    return this.#sockets.size;
  }

  when(rule: SmtpRule): () => void {
    this.#rules.set(rule, { left: rule.times ?? Number.POSITIVE_INFINITY });
    return () => {
      this.#rules.delete(rule);
    };
  }

  dropAll(): void {
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  arrived(count: number): Promise<readonly SmtpMessage[]> {
    const arrived = (): readonly SmtpMessage[] | undefined =>
      this.messages.length < count ? undefined : this.messages;
    return until(arrived, { what: `${String(count)} messages arrived` });
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(resolve);
    });
    this.dropAll();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #decide(stage: SmtpStage, moment: SmtpMoment): Promise<SmtpAction | undefined> {
    for (const [rule, count] of this.#rules) {
      if (rule.stage !== stage || count.left === 0 || rule.if?.(moment) === false) continue;
      count.left--;
      return typeof rule.action === 'function' ? await rule.action(moment) : rule.action;
    }
    return undefined;
  }

  #act(stage: SmtpStage, session: SMTPServerSession, address: string, head: string, reply: Reply): void {
    this.#decide(stage, { address, head, connection: this.#number(session) }).then((action) => {
      if (action === undefined) reply();
      else if (action === 'drop') this.#sockets.get(session.remotePort)?.destroy();
      else if (action !== 'stall') reply(refusal(...action.reply));
    }, reply);
  }

  #number(session: SMTPServerSession): number {
    return this.#numbers.get(session.id) ?? 0;
  }

  async #receive(stream: SMTPServerDataStream, session: SMTPServerSession): Promise<void> {
    const { mailFrom, rcptTo } = session.envelope;
    const to = rcptTo.map((recipient) => recipient.address);
    const whole = createHash('sha256');
    const below = createHash('sha256');
    const kept: Buffer[] = [];
    let head = Buffer.alloc(0);
    let size = 0;
    let trace = -1;
    const moment = (): SmtpMoment => ({
      address: to[0] ?? '',
      head: head.toString('latin1'),
      connection: this.#number(session),
    });
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const first = size === 0;
      size += chunk.length;
      whole.update(chunk);
      if (this.#options.keep === true) kept.push(chunk);
      if (head.length < HEAD) head = Buffer.concat([head, chunk]).subarray(0, HEAD);
      if (trace < 0 && head.length >= Math.min(HEAD, 2048)) {
        trace = traceLength(head);
        below.update(head.subarray(trace));
        below.update(chunk.subarray(chunk.length - (size - head.length)));
      } else if (trace >= 0) below.update(chunk);
      if (first) await this.#interrupt(await this.#decide('body', moment()), session);
    }
    if (trace < 0) {
      trace = traceLength(head);
      below.update(head.subarray(trace));
    }
    const action = await this.#decide('end', moment());
    await this.#interrupt(action, session);
    if (typeof action === 'object' && action.reply[0] >= 300) throw refusal(...action.reply);
    const args = mailFrom === false ? {} : mailFrom.args || {};
    const declared = (args as Record<string, unknown>)['SIZE'];
    this.messages.push({
      from: mailFrom === false ? '' : mailFrom.address,
      to,
      size,
      sha256: whole.digest('hex'),
      sha256BelowTrace: below.digest('hex'),
      head,
      bytes: this.#options.keep === true ? Buffer.concat(kept) : undefined,
      secure: session.secure,
      user: typeof session.user === 'string' ? session.user : undefined,
      declaredSize: declared === undefined ? undefined : Number(declared),
      bodyType: session.envelope.bodyType,
      smtpUtf8: session.envelope.smtpUtf8 === true,
      connection: this.#number(session),
    });
  }

  async #interrupt(action: SmtpAction | undefined, session: SMTPServerSession): Promise<void> {
    if (action === 'drop') this.#sockets.get(session.remotePort)?.destroy();
    if (action === 'drop' || action === 'stall') await new Promise(() => undefined);
  }
}

function traceLength(head: Buffer): number {
  return TRACE.exec(head.toString('latin1'))?.[0].length ?? 0;
}

function refusal(code: number, text: string): Error {
  return Object.assign(new Error(text), { responseCode: code });
}
