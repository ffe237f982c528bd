/** What SCRAM-SHA-256-PLUS binds to: RFC 9266 (`tls-exporter`) with TLS 1.3, RFC 5929 §4 (`tls-server-end-point`) before. */

import { createHash } from 'node:crypto';
import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { peerCertificate } from './peer-certificate.ts';
import type { ChannelBinding } from './sasl/scram.ts';

/** The channel binding of a connection whose handshake is done; undefined where the standards define none. */
export function channelBinding(socket: TLSSocket): ChannelBinding | undefined {
  if (socket.getProtocol() === 'TLSv1.3') {
    const data = socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0));
    return { type: 'tls-exporter', data };
  }
  const certificate = peerCertificate(socket);
  const hash = certificate === undefined ? undefined : endPointHash(certificate);
  if (certificate === undefined || hash === undefined) return undefined;
  return { type: 'tls-server-end-point', data: createHash(hash).update(certificate.raw).digest() };
}

/** The hash of the certificate's signature, but SHA-256 for MD5 and SHA-1 (RFC 5929 §4.1). */
function endPointHash(certificate: X509Certificate): string | undefined {
  const [, name] = /(md5|sha-?(?:1|224|256|384|512))/i.exec(certificate.signatureAlgorithm ?? '') ?? [];
  const hash = name?.toLowerCase().replace('-', '');
  return hash === 'md5' || hash === 'sha1' ? 'sha256' : hash;
}
