/** The certificate of a verified TLS server, also where a resumed session did not show it again. */

import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

const verified = new WeakMap<TLSSocket, X509Certificate>();

/** Notes which certificate a connection was verified by. */
export function rememberCertificate(socket: TLSSocket, certificate: X509Certificate): void {
  verified.set(socket, certificate);
}

/** What the connection was verified by; before that, what the server has shown. Undefined if it showed nothing. */
export function peerCertificate(socket: TLSSocket): X509Certificate | undefined {
  const known = verified.get(socket);
  if (known !== undefined) return known;
  // not `getPeerX509Certificate`: that takes the certificate out of the connection, and is empty when asked again
  const { raw } = socket.getPeerCertificate() as { readonly raw?: Buffer };
  return raw === undefined ? undefined : new X509Certificate(raw);
}
