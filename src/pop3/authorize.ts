/**
 * The AUTHORIZATION state from the greeting to the login: CAPA, STLS, CAPA, the login, CAPA, one command at a time. What was
 * said before TLS is forgotten in it (RFC 2595 §4).
 */

import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Security } from '../config/types.ts';
import { authenticate } from './authenticate.ts';
import type { Login } from './authenticate.ts';
import { parseCapabilities, UNANNOUNCED } from './capabilities.ts';
import type { Capabilities } from './capabilities.ts';
import { channelBinding } from './channel-binding.ts';
import { NO_BODY } from './command.ts';
import type { Engine } from './engine.ts';
import { Pop3Error } from './error.ts';

/** What CAPA may say. */
const CAPABILITIES = { lines: 200, octets: 64 * 1024 };

/** Who logs in, and how: all of a login that the connection does not say by itself. */
export interface Authorization extends Omit<Login, 'isSecured' | 'binding' | 'greeting'> {
  readonly security: Security;
  /** What the server could do before the login an hour ago at most: then it is not asked. */
  readonly remembered?: Capabilities | undefined;
  /** Turns the connection into TLS, once the server has agreed to that. @throws Pop3Error */
  readonly upgrade: (plain: Socket) => Promise<TLSSocket>;
}

/**
 * Goes from a new connection to the TRANSACTION state.
 * @returns what the server could do before the login
 * @throws Pop3Error
 */
export async function authorize(engine: Engine, socket: Socket, asked: Authorization): Promise<Capabilities> {
  const server = `${asked.host}:${asked.port}`;
  const greeted = await engine.greeting().catch((error: unknown) => {
    throw refusedGreeting(error, server);
  });
  const { remembered } = asked;
  let capabilities = remembered ?? (await askCapabilities(engine));
  let secured = socket;
  if (asked.security === 'starttls') {
    await startTls(engine, remembered ? UNANNOUNCED : capabilities, server);
    secured = await asked.upgrade(engine.release());
    engine.adopt(secured);
    // RFC 2595 §4: what was said in the clear may have been said by anybody.
    capabilities = remembered ?? (await askCapabilities(engine));
  }
  await authenticate(engine, capabilities, {
    ...asked,
    isSecured: secured instanceof TLSSocket,
    binding: secured instanceof TLSSocket ? channelBinding(secured) : undefined,
    greeting: greeted.kind === 'ok' ? greeted.text : '',
  });
  return capabilities;
}

/** What the server can do in the present state. @throws Pop3Error if the connection is lost */
export async function askCapabilities(engine: Engine): Promise<Capabilities> {
  const lines: string[] = [];
  try {
    await engine.send({
      line: 'CAPA',
      shown: 'CAPA',
      body: { kind: 'lines', take: (line) => void lines.push(line.toString('latin1')), ...CAPABILITIES },
    });
  } catch (error) {
    if (error instanceof Pop3Error && error.kind === 'refused') return UNANNOUNCED;
    throw error;
  }
  return parseCapabilities(lines);
}

async function startTls(engine: Engine, { announced, stls }: Capabilities, server: string): Promise<void> {
  if (announced && !stls) throw noTls(server, 'the server does not offer STLS, and the account demands it');
  try {
    await engine.send({ line: 'STLS', shown: 'STLS', body: NO_BODY });
  } catch (error) {
    if (error instanceof Pop3Error && error.kind === 'refused')
      throw noTls(server, `the server refuses STLS: ${error.said ?? ''}`);
    throw error;
  }
}

function noTls(server: string, message: string): Pop3Error {
  return new Pop3Error(`${server}: ${message}`, {
    kind: 'policy',
    server,
    remedy:
      'Use port 995 with security: tls. If the server used to offer STLS, somebody may be tampering with the connection.',
  });
}

function refusedGreeting(error: unknown, server: string): unknown {
  if (!(error instanceof Pop3Error) || error.kind !== 'refused') return error;
  const { said, responseCode } = error;
  return new Pop3Error(`${server} turned the connection away: ${said ?? ''}`, {
    kind: 'refused',
    server,
    responseCode,
    cause: error,
    ...(said === undefined ? {} : { said }),
  });
}
