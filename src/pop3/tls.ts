/**
 * TLS over a connected socket: 1.2 and up, and always verified, by chain and name or by a pinned fingerprint. There is
 * no way to switch that off. Hands out no socket whose server has not been verified, and ends those that it does not.
 */

import { createHash, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { connect, createSecureContext } from 'node:tls';
import type { ConnectionOptions, SecureContextOptions, TLSSocket } from 'node:tls';
import { domainToASCII } from 'node:url';
import type { TlsConfig } from '../config/types.ts';
import { reasonOf } from '../failure.ts';
import { placeName } from './connect.ts';
import type { Place } from './connect.ts';
import { Ended, settled, withDeadline } from './deadline.ts';
import type { Bounds } from './deadline.ts';
import { peerCertificate, rememberCertificate } from './peer-certificate.ts';
import type { KeptSession, SessionCache } from './session-cache.ts';
import { certificateFailure, fingerprintOf, handshakeFailure, TlsFailure } from './tls-failure.ts';

/** `host` and `port` as in the config, even if a proxy is in between; `timeout` bounds the handshake. */
export interface TlsOptions extends Place, Bounds {
  readonly tls: TlsConfig;
  /** Shared by all connections that may resume each other's sessions; left out: none is resumed. */
  readonly sessionCache?: SessionCache | undefined;
}

/**
 * The verified TLS connection over `socket`, without listeners: the caller must add its own (`error` first) before it
 * waits for anything else. The caller must have read all that came in the clear, and have thrown it away.
 * Throws a `TlsFailure`, a `Pop3Error` of kind `tls`; `socket` is then destroyed.
 */
export async function upgradeTls(socket: Socket, options: TlsOptions): Promise<TLSSocket> {
  const server = placeName(options);
  let secure: TLSSocket | undefined;
  try {
    return await withDeadline(options, async (signal) => {
      const files = await readFiles(server, options.tls);
      const name = nameToVerify(options);
      const key = sessionKey(options, name, files);
      // OpenSSL servers that ask for client certificates often end the connection over a resumed session (Dovecot 2.3)
      const cache = files.cert === undefined ? options.sessionCache : undefined;
      const kept = cache?.get(key);
      secure = start(socket, options, name, files, kept?.session);
      // destroyed with the other if the error comes by way of the lower one
      socket.on('error', (error) => secure?.destroy(error));
      const verified = keepSessions(secure, key, cache);
      try {
        await secured(secure, signal);
      } catch (error) {
        if (error instanceof Ended) throw error;
        if (kept !== undefined) cache?.never(key); // it may have been the session: from now on full handshakes
        throw handshakeFailure(server, error);
      }
      const certificate = verify(secure, server, name, options.tls, kept);
      rememberCertificate(secure, certificate);
      verified(certificate);
      return secure;
    });
  } catch (error) {
    secure?.on('error', ignoreLateError);
    secure?.destroy();
    socket.on('error', ignoreLateError);
    socket.destroy();
    if (!(error instanceof Ended)) throw error;
    const what = error.kind === 'timeout' ? 'the handshake took too long' : 'stopped';
    throw new TlsFailure(server, error.kind, what, undefined, error);
  }
}

function start(
  socket: Socket,
  { tls }: TlsOptions,
  name: string,
  files: SecureContextOptions,
  session: Buffer | undefined,
): TLSSocket {
  const options: ConnectionOptions = {
    socket,
    secureContext: createSecureContext({ ...files, minVersion: 'TLSv1.2' }),
    host: name, // what the certificate is checked against
    // `verify` decides, and nothing is sent before: a socket that Node ends by itself has no certificate left to explain
    rejectUnauthorized: false,
  };
  if (isIP(name) === 0) options.servername = name; // RFC 6066 §3: no addresses
  if (session !== undefined) options.session = session;
  if (tls.fingerprint !== undefined) options.checkServerIdentity = () => undefined;
  return connect(options);
}

function secured(secure: TLSSocket, signal: AbortSignal): Promise<void> {
  return settled(signal, (resolve, reject) => {
    const closed = (): void => {
      reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' }));
    };
    secure.once('secureConnect', resolve);
    secure.once('error', reject);
    secure.once('close', closed);
    return () => {
      secure.removeListener('secureConnect', resolve);
      secure.removeListener('error', reject);
      secure.removeListener('close', closed);
    };
  });
}

/** The certificate by which the server has proved itself. Throws if it has not. */
function verify(
  secure: TLSSocket,
  server: string,
  name: string,
  tls: TlsConfig,
  kept: KeptSession | undefined,
): X509Certificate {
  // only sessions of verified servers are kept, each under all that it was verified by
  if (kept !== undefined && secure.isSessionReused()) return new X509Certificate(kept.certificate);
  const found = peerCertificate(secure);
  if (found === undefined) throw new TlsFailure(server, 'certificate', 'the server shows no certificate');
  if (tls.fingerprint === undefined) {
    if (secure.authorized) return found;
    throw certificateFailure(server, verdictOf(secure.authorizationError), name, found);
  }
  const fingerprint = fingerprintOf(found);
  if (fingerprint === tls.fingerprint) return found;
  throw new TlsFailure(
    server,
    'fingerprint',
    `the certificate has the fingerprint ${fingerprint}, not the one in the config`,
    'If the server has got a new certificate, put its fingerprint into the config; else somebody is in between.',
  );
}

// Node's types say `Error`, its documentation too; it is the code, as a string.
function verdictOf(authorizationError: unknown): string {
  if (typeof authorizationError === 'string') return authorizationError;
  if (authorizationError instanceof Error && 'code' in authorizationError) return String(authorizationError.code);
  return 'not authorized';
}

/**
 * Keeps what the server gives for resumption, with TLS 1.3 any time after the handshake.
 * @returns to be called once the server is verified: before that nothing is kept
 */
function keepSessions(
  secure: TLSSocket,
  key: string,
  cache: SessionCache | undefined,
): (certificate: X509Certificate) => void {
  if (cache === undefined) return () => undefined;
  let verifiedBy: Buffer | undefined;
  let latest: Buffer | undefined;
  const keep = (): void => {
    if (latest !== undefined && verifiedBy !== undefined) cache.set(key, { session: latest, certificate: verifiedBy });
  };
  secure.on('session', (session) => {
    latest = session;
    keep();
  });
  return (certificate) => {
    verifiedBy = certificate.raw;
    keep();
  };
}

/** The name or address that the certificate must be for. */
function nameToVerify({ host, tls }: TlsOptions): string {
  const name = (tls.serverName ?? host).replace(/\.$/, '');
  if (isIP(name) !== 0) return name;
  const ascii = domainToASCII(name);
  return ascii === '' ? name : ascii;
}

function sessionKey(options: TlsOptions, name: string, files: SecureContextOptions): string {
  const hash = createHash('sha256');
  for (const part of [
    options.host,
    String(options.port),
    name,
    options.tls.fingerprint,
    files.ca,
    files.cert,
    files.key,
  ]) {
    // each part with its length, so that no two settings make the same octets
    const octets = part === undefined ? undefined : Buffer.from(part as string | Buffer);
    hash.update(`${String(octets?.length ?? 'none')}:`);
    if (octets !== undefined) hash.update(octets);
  }
  return hash.digest('base64');
}

/** Read anew for each connection, so that renewed files count. */
async function readFiles(server: string, tls: TlsConfig): Promise<SecureContextOptions> {
  const files: SecureContextOptions = {};
  if (tls.caFile !== undefined) files.ca = await pem(server, 'caFile', tls.caFile, 'CERTIFICATE');
  if (tls.certFile !== undefined) files.cert = await pem(server, 'certFile', tls.certFile, 'CERTIFICATE');
  if (tls.keyFile !== undefined) files.key = await pem(server, 'keyFile', tls.keyFile, 'KEY');
  try {
    for (const certificate of [files.ca, files.cert]) {
      // without this a broken authority would be passed over in silence, and nothing be trusted
      if (certificate !== undefined) void new X509Certificate(certificate as Buffer);
    }
    createSecureContext(files);
  } catch (error) {
    const what = `the PEM files of \`tls\` cannot be used: ${reasonOf(error)}`;
    throw new TlsFailure(server, 'file', what, 'Check that `certFile` and `keyFile` belong together.', error);
  }
  return files;
}

async function pem(server: string, field: string, path: string, label: string): Promise<Buffer> {
  let content: Buffer;
  try {
    content = await readFile(path);
  } catch (error) {
    const what = `\`tls.${field}\` cannot be read: ${reasonOf(error)}`;
    throw new TlsFailure(server, 'file', what, 'Put the PEM file there, or correct the path.', error);
  }
  if (new RegExp(`-----BEGIN [A-Z0-9 ]*${label}-----`).test(content.toString('latin1'))) return content;
  const what = `\`tls.${field}\`, ${path}, holds no PEM ${label === 'KEY' ? 'key' : 'certificate'}`;
  throw new TlsFailure(server, 'file', what, 'It must be a file in PEM format ("-----BEGIN ...").');
}

function ignoreLateError(): void {
  // the failure has been reported; what a socket says while it is being destroyed is no news
}
