/**
 * How a webhook's connections are made: the guard (`egress.ts`) sees each address at the moment of connecting, so that no
 * name in the DNS can lead elsewhere than it did when it was looked at; TLS is verified as the config says.
 */

import { lookup } from 'node:dns';
import { isIP } from 'node:net';
import type { LookupFunction, Socket } from 'node:net';
import type { buildConnector } from 'undici';
import type { WebhookConfig } from '../config/types.ts';
import { Failure } from '../failure.ts';
import { dial } from './dial.ts';
import { mayConnect } from './egress.ts';
import { tunnel } from './http-tunnel.ts';
import { pinnedFailure, startTls, tlsOptions } from './tls.ts';

const CONNECT_TIMEOUT = 30_000;

/** A function that looks names up; `dns.lookup` but for tests. */
export type Lookup = typeof lookup;

/** A connector for undici. Its errors are a `Failure` (`webhook.egress`, `webhook.connect`, `tls.*`) or TLS's own. */
export function guardedConnector(
  config: Pick<WebhookConfig, 'tls' | 'allowPrivate' | 'proxy'>,
  resolve: Lookup = lookup,
): buildConnector.connector {
  async function connect(options: buildConnector.Options): Promise<Socket> {
    const host = options.hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) !== 0 && !mayConnect(host, config.allowPrivate)) throw refusal(host, host);
    const secure = options.protocol === 'https:';
    const place = { host, port: Number(options.port) || (secure ? 443 : 80) };
    const tls = await tlsOptions(config.tls);
    // Behind a proxy names are the proxy's to look up: the guard sees literal addresses only, and the proxy must do the rest.
    const socket =
      config.proxy === undefined
        ? await dial(place, 'webhook', CONNECT_TIMEOUT, { lookup: guardedLookup(config.allowPrivate, resolve) })
        : await tunnel(await config.proxy.reveal(), place, CONNECT_TIMEOUT);
    try {
      // the last word: the address that is really at the other end
      const remote = socket.remoteAddress ?? '';
      if (config.proxy === undefined && !mayConnect(remote, config.allowPrivate)) throw refusal(host, remote);
      if (!secure) return socket;
      const secured = await startTls(socket, { ...tls, ALPNProtocols: ['http/1.1'] }, host, CONNECT_TIMEOUT);
      const pinned = pinnedFailure(config.tls, secured, host);
      if (pinned !== undefined) throw pinned;
      return secured;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  return (options, callback) => {
    void hand(connect(options), callback);
  };
}

async function hand(connecting: Promise<Socket>, callback: buildConnector.Callback): Promise<void> {
  let socket: Socket;
  try {
    socket = await connecting;
  } catch (error) {
    callback(error as Error, null);
    return;
  }
  callback(null, socket);
}

function guardedLookup(allowPrivate: boolean, resolve: Lookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) {
        callback(error, []);
        return;
      }
      const allowed = found.filter(({ address }) => mayConnect(address, allowPrivate));
      const [first] = allowed;
      if (first === undefined) callback(refusal(hostname, found.map(({ address }) => address).join(', ')), []);
      else if (options.all === true) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}

function refusal(host: string, address: string): Failure {
  const what = host === address ? address : `${host} (${address})`;
  return new Failure(`${what} is not an address that a webhook may go to`, {
    scope: 'destination',
    code: 'webhook.egress',
    permanent: true,
    server: host,
    remedy: 'If it is a host of your own network, set allowPrivate: true. Link-local addresses are never allowed.',
  });
}
