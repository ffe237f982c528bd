/** Why there is no TLS, told apart by what an operator has to do about it. */

import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';
import { Pop3Error } from './error.ts';

/**
 * - `name`: the certificate is for another name. `validity`: expired, or not yet valid. `issuer`: nobody trusted signed
 *   it. `fingerprint`: not the pinned one. `certificate`: anything else that is wrong with it.
 * - `plaintext`: the server does not speak TLS here. `version`: only versions or ciphers that are too
 *   old; TLS 1.2 servers that want a client certificate say the same.
 * - `client`: the server does not take our certificate, or wants one. `file`: a PEM file of the config is of no use.
 * - `cut`: the connection ended in the handshake. `timeout`: it took too long. `stopped`: we gave it up ourselves.
 */
export type TlsReason =
  | 'name'
  | 'validity'
  | 'issuer'
  | 'fingerprint'
  | 'certificate'
  | 'plaintext'
  | 'version'
  | 'client'
  | 'file'
  | 'cut'
  | 'timeout'
  | 'stopped'
  | 'other';

/** These stay as they are until a person changes something. */
const LASTING: ReadonlySet<TlsReason> = new Set(['name', 'issuer', 'fingerprint', 'plaintext', 'client', 'file']);

export class TlsFailure extends Pop3Error {
  readonly reason: TlsReason;

  constructor(server: string, reason: TlsReason, what: string, remedy?: string, cause?: unknown) {
    super(`no TLS with ${server}: ${what}`, {
      kind: 'tls',
      permanent: LASTING.has(reason),
      server,
      cause,
      ...(remedy === undefined ? {} : { remedy }),
    });
    this.reason = reason;
  }
}

/** SHA-256 of a certificate as the config writes it: 64 lower-case hexadecimal digits. */
export function fingerprintOf(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '').toLowerCase();
}

/**
 * What is wrong with a certificate that was not accepted.
 * @param code Node's or OpenSSL's code for the verdict
 * @param name what the certificate should be for
 */
export function certificateFailure(server: string, code: string, name: string, found: X509Certificate): TlsFailure {
  const pin = `\`fingerprint: ${fingerprintOf(found)}\``;
  const cause = new Error(code);
  switch (code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID': {
      const names = namesOf(found);
      const list = names === '' ? 'no name at all' : names;
      const remedy =
        names === ''
          ? `If this is the right server, pin its certificate: ${pin}.`
          : 'If one of these is the right server, use it as `host`, or as `serverName`.';
      return new TlsFailure(server, 'name', `the certificate is for ${list}, not for ${name}`, remedy, cause);
    }
    case 'CERT_HAS_EXPIRED': {
      const remedy = 'The server needs a new certificate; or the clock of this machine is wrong.';
      return new TlsFailure(server, 'validity', `the certificate expired on ${found.validTo}`, remedy, cause);
    }
    case 'CERT_NOT_YET_VALID': {
      const remedy = 'The clock of this machine or of the server is wrong.';
      return new TlsFailure(server, 'validity', `the certificate is valid from ${found.validFrom}`, remedy, cause);
    }
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'CERT_UNTRUSTED': {
      const issuer = found.subject === found.issuer ? 'nobody but itself' : oneLine(found.issuer);
      const remedy =
        'If this is the right server, name the PEM file of its authority as `caFile`, ' +
        `or pin its certificate: ${pin}.`;
      const what = `the certificate is signed by ${issuer}, which is not trusted here`;
      return new TlsFailure(server, 'issuer', what, remedy, cause);
    }
    default: {
      const remedy = `The server needs a better certificate; if it is the right one, pin it: ${pin}.`;
      return new TlsFailure(server, 'certificate', `the certificate is refused (${code})`, remedy, cause);
    }
  }
}

/** The failure of a handshake, or of a connection that TLS 1.3 lets begin before the server has judged our certificate. */
export function handshakeFailure(server: string, error: unknown): TlsFailure {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  switch (code) {
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
    case 'ERR_SSL_UNEXPECTED_MESSAGE':
    case 'ERR_SSL_RECORD_LAYER_FAILURE': {
      const remedy = 'Use `security: starttls` with this port, or the port for TLS (usually 995).';
      return new TlsFailure(server, 'plaintext', 'the server does not speak TLS on this port', remedy, error);
    }
    case 'ERR_SSL_UNSUPPORTED_PROTOCOL':
    case 'ERR_SSL_VERSION_TOO_LOW':
    case 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION':
    case 'ERR_SSL_TLSV1_ALERT_INSUFFICIENT_SECURITY':
    case 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE':
    case 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE':
    case 'ERR_SSL_DH_KEY_TOO_SMALL':
    case 'ERR_SSL_LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED':
    case 'ERR_SSL_UNSAFE_LEGACY_RENEGOTIATION_DISABLED': {
      const what = `there is no version or cipher that both sides accept (${code})`;
      const remedy = 'The server must learn TLS 1.2 with a current cipher; or it wants a client certificate.';
      return new TlsFailure(server, 'version', what, remedy, error);
    }
    case 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED':
    case 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA':
    case 'ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE':
    case 'ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED':
    case 'ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN':
    case 'ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED': {
      const remedy = 'Check `certFile` and `keyFile`: the server wants a client certificate that it knows.';
      return new TlsFailure(server, 'client', `the server does not accept our certificate (${code})`, remedy, error);
    }
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ERR_SSL_UNEXPECTED_EOF_WHILE_READING': {
      const remedy = 'Check that this port speaks TLS at once; a firewall or an overloaded server may be the reason.';
      return new TlsFailure(server, 'cut', 'the server hung up in the handshake', remedy, error);
    }
    default:
      return new TlsFailure(server, 'other', printable(reasonOf(error)), undefined, error);
  }
}

/** `a.example, *.b.example, 192.0.2.1`: the names a certificate is for; those of its subject where it has no others. */
function namesOf(certificate: X509Certificate): string {
  const alternative = certificate.subjectAltName;
  if (alternative !== undefined) {
    const names = alternative
      .split(', ')
      .map((entry) => /^(?:DNS|IP Address):(.*)$/.exec(entry)?.[1])
      .filter((name) => name !== undefined);
    if (names.length > 0) return printable(names.join(', '));
  }
  const common = /^CN=(.*)$/m.exec(certificate.subject)?.[1];
  return common === undefined || isIP(common) !== 0 ? '' : printable(common);
}

function oneLine(distinguishedName: string): string {
  return `"${printable(distinguishedName.replaceAll('\n', ', '), 150)}"`;
}
