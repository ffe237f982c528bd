/**
 * TLS as a destination's config asks for it. Without a pinned fingerprint the chain and the name are always verified;
 * there is no way to switch that off.
 */

import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { connect, TLSSocket } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import type { TlsConfig } from '../config/types.ts';
import { Failure, reasonOf } from '../failure.ts';

/** Options for `tls.connect`. Reads the files anew, so that renewed certificates count. Throws a `Failure` (`tls.file`). */
export async function tlsOptions(config: TlsConfig): Promise<ConnectionOptions> {
  const options: ConnectionOptions = { minVersion: 'TLSv1.2' };
  if (config.caFile !== undefined) options.ca = await pem(config.caFile, 'caFile');
  if (config.certFile !== undefined) options.cert = await pem(config.certFile, 'certFile');
  if (config.keyFile !== undefined) options.key = await pem(config.keyFile, 'keyFile');
  if (config.serverName !== undefined) options.servername = config.serverName;
  // `pinnedFailure` takes the place of the check of chain and name
  if (config.fingerprint !== undefined) options.rejectUnauthorized = false;
  return options;
}

/**
 * The handshake on a connected socket, with `host` as the name to ask for and to check unless the options name another.
 * Throws the errors of `node:tls`, or a `Failure` (`tls.timeout`) after `timeout` milliseconds.
 */
export async function startTls(
  socket: Socket,
  options: ConnectionOptions,
  host: string,
  timeout: number,
): Promise<TLSSocket> {
  const servername = options.servername ?? (isIP(host) === 0 ? host : undefined);
  const secured = connect({ ...options, socket, host, ...(servername === undefined ? {} : { servername }) });
  let cleanUp: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const closed = (): void => {
        reject(new Error('the connection was closed during the TLS handshake'));
      };
      const timer = setTimeout(() => {
        reject(
          new Failure(`no TLS within ${String(timeout / 1000)} s`, {
            scope: 'destination',
            code: 'tls.timeout',
            server: host,
            remedy: 'Check that this port speaks TLS at once.',
          }),
        );
      }, timeout);
      secured.once('secureConnect', resolve).once('error', reject).once('close', closed);
      cleanUp = () => {
        clearTimeout(timer);
        secured.off('secureConnect', resolve).off('error', reject).off('close', closed);
      };
    });
    return secured;
  } catch (error) {
    secured.on('error', () => {
      // the handshake has failed and been reported
    });
    secured.destroy();
    throw error;
  } finally {
    cleanUp?.();
  }
}

/** Why the certificate of a connected socket is not the pinned one; undefined if it is, or if none is pinned. */
export function pinnedFailure(config: TlsConfig, socket: unknown, server: string): Failure | undefined {
  if (config.fingerprint === undefined) return undefined;
  const found =
    socket instanceof TLSSocket
      ? (socket.getPeerX509Certificate()?.fingerprint256.replaceAll(':', '').toLowerCase() ?? 'none')
      : 'none';
  if (found === config.fingerprint) return undefined;
  return new Failure(`the certificate has the fingerprint ${found}, not the one in the config`, {
    scope: 'destination',
    code: 'tls.fingerprint',
    permanent: true,
    server,
    remedy: 'If the server got a new certificate, put its fingerprint into the config; else somebody is in between.',
  });
}

/** What an operator can do about a failed TLS handshake, by OpenSSL's and Node's error codes. */
export function tlsRemedy(code: string | undefined): string | undefined {
  switch (code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return 'Use the host name that the certificate was made for, or name it as serverName.';
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return 'Name the authority that signed the certificate as caFile, or pin the certificate as fingerprint.';
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID':
      return 'The certificate must be renewed at the server (or the clock of one of the two is wrong).';
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
      return 'This port does not speak TLS at once: perhaps it wants security: starttls.';
    case undefined:
    default:
      return undefined;
  }
}

async function pem(path: string, field: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new Failure(`${field} ${path} cannot be read: ${reasonOf(error)}`, {
      scope: 'destination',
      code: 'tls.file',
      permanent: true,
      remedy: `Put the PEM file there, or correct tls.${field}.`,
      cause: error,
    });
  }
}
