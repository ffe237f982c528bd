/** Certificates for tests: an authority and what it signed, made by `tls/make.sh`. Good on loopback for nothing but tests. */

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** `server` is right for localhost; the next two must be refused; `client` identifies a client. */
export type CertificateName = 'server' | 'wrong-name' | 'expired' | 'client';

const folder = join(import.meta.dirname, 'tls');

/** The authority's PEM file, for `caFile`. */
export const caFile: string = join(folder, 'ca.pem');

/** The paths of a certificate and its key, for `certFile` and `keyFile`. */
export function certificateFiles(name: CertificateName): { readonly certFile: string; readonly keyFile: string } {
  return { certFile: join(folder, `${name}.pem`), keyFile: join(folder, `${name}-key.pem`) };
}

/** A certificate and its key as a TLS server takes them. */
export function certificate(name: CertificateName): { readonly cert: Buffer; readonly key: Buffer } {
  const { certFile, keyFile } = certificateFiles(name);
  return { cert: readFileSync(certFile), key: readFileSync(keyFile) };
}

/** SHA-256 of the certificate as the config writes it: 64 lower-case hexadecimal digits. */
export function fingerprintOfCertificate(name: CertificateName): string {
  return new X509Certificate(certificate(name).cert).fingerprint256.replaceAll(':', '').toLowerCase();
}
