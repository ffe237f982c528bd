/**
 * A connection through an HTTP proxy (CONNECT, RFC 9110 §9.3.6). The proxy's credentials go to the proxy alone and show in
 * no error; nothing is sent to the target before the proxy has said 2xx.
 */

import type { Socket } from 'node:net';
import { Failure } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { dial, placeName } from './dial.ts';
import { startTls } from './tls.ts';

// The header of the proxy's answer; more than this is no answer to CONNECT.
const LIMIT = 16 * 1024;

/**
 * Connects to `target` by way of the proxy, each step within `timeout` milliseconds.
 * Throws a `Failure` (`webhook.connect`, `webhook.proxy`) that says what to do.
 */
export async function tunnel(
  proxy: string,
  target: { readonly host: string; readonly port: number },
  timeout: number,
): Promise<Socket> {
  const url = URL.parse(proxy);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw failure('it is no http:// or https:// URL', 'the proxy');
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const secure = url.protocol === 'https:';
  const place = { host, port: Number(url.port) || (secure ? 443 : 80) };
  const plain = await dial(place, 'webhook', timeout);
  try {
    const socket = secure ? await startTls(plain, {}, host, timeout) : plain;
    const authority = placeName(target);
    const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    const login =
      url.username === '' ? '' : `Proxy-Authorization: Basic ${Buffer.from(credentials).toString('base64')}\r\n`;
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${login}\r\n`);
    const answer = await answerOf(socket, timeout, placeName(place));
    if (!/^HTTP\/1\.[01] 2\d\d\b/.test(answer)) {
      throw failure(printable(answer.split('\r\n', 1)[0] ?? ''), placeName(place));
    }
    return socket;
  } catch (error) {
    plain.destroy();
    throw error;
  }
}

function answerOf(socket: Socket, timeout: number, server: string): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    let seen = Buffer.alloc(0);
    const end = (work: () => void): void => {
      clearTimeout(timer);
      socket.off('data', more).off('error', broken).off('close', closed);
      socket.pause();
      work();
    };
    const refuse = (reason: string): void => {
      end(() => {
        reject(failure(reason, server));
      });
    };
    const more = (chunk: Buffer): void => {
      seen = Buffer.concat([seen, chunk]);
      const at = seen.indexOf('\r\n\r\n');
      if (at >= 0) {
        end(() => {
          // what the target has already said belongs to the tunnel
          if (seen.length > at + 4) socket.unshift(seen.subarray(at + 4));
          resolve(seen.subarray(0, at).toString('latin1'));
        });
      } else if (seen.length > LIMIT) refuse('its answer does not end');
    };
    const broken = (error: Error): void => {
      refuse(error.message);
    };
    const closed = (): void => {
      refuse('it hung up');
    };
    const timer = setTimeout(() => {
      refuse(`no answer within ${String(timeout / 1000)} s`);
    }, timeout);
    socket.on('data', more).on('error', broken).on('close', closed);
  });
}

function failure(reason: string, server: string): Failure {
  return new Failure(`the proxy ${server} did not connect: ${reason}`, {
    scope: 'destination',
    code: 'webhook.proxy',
    server,
    remedy: 'Check the address of the proxy and its credentials, and that it lets this host through.',
  });
}
