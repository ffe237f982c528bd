/**
 * Logging in: one try, by the strongest way that both sides know. Whether another one makes sense after a refusal is said
 * in the error (`lesson`) and never done here: the server may have hung up. No secret crosses a connection without TLS
 * unless the account says `security: none`.
 */

import { randomBytes } from 'node:crypto';
import type { Security } from '../config/types.ts';
import { Failure } from '../failure.ts';
import type { Capabilities } from './capabilities.ts';
import { NO_BODY } from './command.ts';
import type { Command } from './command.ts';
import type { Accepted, Engine } from './engine.ts';
import { Pop3Error } from './error.ts';
import { apopDigest, apopTimestamp } from './sasl/apop.ts';
import type { Lesson } from './lessons.ts';
import { afterRefusal, choose } from './sasl/choose.ts';
import type { Candidate, Decision } from './sasl/choose.ts';
import { createMechanism } from './sasl/create.ts';
import type { Mechanism } from './sasl/mechanism.ts';
import type { ChannelBinding } from './sasl/scram.ts';
import { twoStep } from './sasl/two-step.ts';

/** No mechanism needs more challenges than this. */
const CHALLENGES = 12;

export interface Login {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: (() => Promise<string>) | undefined;
  readonly accessToken: (() => Promise<string>) | undefined;
  readonly mechanism: string | undefined;
  readonly security: Security;
  readonly certificate: boolean;
  /** The connection is encrypted and the server verified. */
  readonly isSecured: boolean;
  readonly binding: ChannelBinding | undefined;
  readonly greeting: string;
  /** RFC 6856 is to be switched on before the login, which is the only time for it. */
  readonly utf8: boolean;
  /** What an earlier session has shown. */
  readonly lesson: Lesson;
}

/**
 * Logs in. @throws Pop3Error: kind `auth` if the credentials were refused, `policy` if there is no way in that the config allows
 */
export async function authenticate(engine: Engine, capabilities: Capabilities, login: Login): Promise<void> {
  const { host, port } = login;
  const server = `${host}:${port}`;
  const timestamp = apopTimestamp(login.greeting);
  const decision = choose({
    offer: { sasl: capabilities.sasl, user: capabilities.user, apop: timestamp !== undefined },
    credentials: {
      password: login.password !== undefined,
      token: login.accessToken !== undefined,
      certificate: login.certificate,
    },
    wire: { tls: login.isSecured, security: login.security, binding: login.binding !== undefined },
    named: login.mechanism,
  });
  const { candidates } = decision;
  const candidate = candidates.find(({ method }) => method === login.lesson.method) ?? candidates[0];
  if (!candidate) {
    const { message, remedy } = decision.refusal ?? { message: 'there is no way to log in', remedy: '' };
    throw new Pop3Error(`cannot log in to ${server}: ${message}`, { kind: 'policy', server, remedy });
  }
  const password = candidate.method === 'EXTERNAL' ? '' : ((await login.password?.()) ?? '');
  const token = (await login.accessToken?.()) ?? '';
  const saysUtf8 = login.lesson.utf8 === true || (capabilities.utf8 && login.utf8);
  // RFC 6856 §2.2: names and passwords of USER and APOP are ASCII, but after UTF8 where the server says UTF8 USER.
  const isWide =
    !isAscii(login.user + password) &&
    capabilities.utf8User &&
    (candidate.method === 'USER' || candidate.method === 'APOP');
  if (saysUtf8 || (capabilities.utf8 && isWide)) await switchToUtf8(engine);
  const exchange = { engine, login, capabilities, decision, candidate, server, saysUtf8 };
  if (candidate.method === 'APOP') {
    await send(exchange, `APOP ${login.user} ${apopDigest(timestamp ?? '', password)}`, `APOP ${login.user} [digest]`);
  } else if (candidate.method === 'USER') {
    await send(exchange, `USER ${login.user}`, `USER ${login.user}`);
    // RFC 1939 §7: the rest of the line is the password, blanks and all.
    await send(exchange, `PASS ${password}`, 'PASS [secret]');
  } else {
    const mechanism = createMechanism(
      candidate.method,
      {
        user: login.user,
        password,
        token,
        host,
        port,
        nonce: randomBytes(18).toString('base64'),
        binding: login.binding,
      },
      candidate.binding,
    );
    await runSasl(exchange, mechanism);
  }
}

async function switchToUtf8(engine: Engine): Promise<void> {
  try {
    await engine.send({ line: 'UTF8', shown: 'UTF8', body: NO_BODY });
  } catch (error) {
    // A server may refuse (RFC 6856 §2.1). Mail that needs it is refused one by one then.
    if (!(error instanceof Pop3Error) || error.kind !== 'refused') throw error;
  }
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length;
}

interface Exchange {
  readonly engine: Engine;
  readonly login: Login;
  readonly capabilities: Capabilities;
  readonly decision: Decision;
  readonly candidate: Candidate;
  readonly server: string;
  readonly saysUtf8: boolean;
}

async function runSasl(exchange: Exchange, mechanism: Mechanism): Promise<void> {
  const { method, listed } = exchange.candidate;
  const name = `AUTH ${mechanism.name}`;
  let waiting: Buffer | undefined = mechanism.hasInitialResponse ? await mechanism.respond(Buffer.alloc(0)) : undefined;
  let line = name;
  if (waiting && !twoStep(method, waiting, listed)) {
    line = `${name} ${waiting.length === 0 ? '=' : waiting.toString('base64')}`;
    waiting = undefined;
  }
  let reply = await send(exchange, line, name, mechanism);
  for (let challenges = 0; reply.kind === 'continue'; challenges += 1) {
    if (challenges >= CHALLENGES) throw cancelled(exchange, name, 'too many challenges');
    let response: Buffer;
    try {
      response = waiting ?? (await mechanism.respond(decode(reply.challenge)));
    } catch (error) {
      // RFC 5034 §4: a client that does not go on says so with "*".
      await send(exchange, '*', '*').catch((refused: unknown) => refused);
      throw error instanceof Failure
        ? error
        : cancelled(exchange, name, 'the server sent a challenge that makes no sense');
    }
    waiting = undefined;
    reply = await send(exchange, response.toString('base64'), `${name} [response]`, mechanism);
  }
  if (mechanism.verified?.() === false)
    throw cancelled(exchange, name, 'the server did not prove that it knows the password');
}

/** Strict base64 (RFC 5034 §4). */
function decode(challenge: string): Buffer {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(challenge))
    throw new TypeError('not base64');
  return Buffer.from(challenge, 'base64');
}

async function send(exchange: Exchange, line: string, shown: string, mechanism?: Mechanism): Promise<Accepted> {
  const command: Command = { line, shown, body: NO_BODY, isAuth: mechanism !== undefined };
  try {
    return await exchange.engine.send(command);
  } catch (error) {
    if (!(error instanceof Pop3Error) || error.kind !== 'refused') throw error;
    throw refused(error, exchange, mechanism?.failureDetail?.());
  }
}

/** RFC 3206: with a response code it is known what was refused; without one it is most likely the password. */
function refused(error: Pop3Error, exchange: Exchange, detail: string | undefined): Pop3Error {
  const { server, candidate, capabilities } = exchange;
  const { said, responseCode, command } = error;
  const code = responseCode ?? '';
  const isLogin = code === '' || code.startsWith('AUTH');
  const why = detail === undefined ? (said ?? '') : `${said ?? ''} (${detail})`;
  return new Pop3Error(`${server} refused the login: ${why}`, {
    kind: isLogin ? 'auth' : 'refused',
    scope: 'account',
    server,
    remedy: isLogin ? credentialsRemedy(candidate.method) : remedyFor(code),
    responseCode,
    loginDelay: capabilities.loginDelay?.seconds,
    lesson: lessonOf(exchange, code),
    cause: error,
    ...(said === undefined ? {} : { said }),
    ...(command === undefined ? {} : { command }),
  });
}

/** What another session may do otherwise: RFC 6856 §5 asks for UTF8, and `afterRefusal` knows of another method. */
function lessonOf({ login, decision, candidate, saysUtf8 }: Exchange, code: string): Lesson | undefined {
  if (code === 'UTF8') return saysUtf8 ? undefined : { utf8: true };
  if (login.mechanism !== undefined) return undefined;
  const next = afterRefusal(decision, candidate.method, code);
  return next && { method: next.method };
}

function credentialsRemedy(method: Candidate['method']): string {
  if (method === 'OAUTHBEARER' || method === 'XOAUTH2')
    return 'See that what renews `accessToken` still works, that the token is meant for POP3 at this provider, and whose it is.';
  if (method === 'EXTERNAL') return 'Check that the server knows the certificate in `certFile` as that of this user.';
  return 'Check user and password (many providers want an app password), and that POP3 is allowed for this mailbox.';
}

function remedyFor(code: string): string {
  if (code === 'IN-USE') return 'Another program has this maildrop open: mailferry tries again soon.';
  if (code === 'LOGIN-DELAY') return 'The server wants more time between two logins: mailferry waits; poll less often.';
  if (code === 'SYS/PERM') return 'Ask the provider: the server says that this will not go away by itself.';
  return 'mailferry tries again by itself.';
}

function cancelled({ server }: Exchange, name: string, why: string): Pop3Error {
  return new Pop3Error(`cannot log in to ${server}: ${name}: ${why}`, {
    kind: 'protocol',
    server,
    remedy: 'If the server is known to do this, name another mechanism in the account.',
  });
}
