/** The config of an SMTP destination, as tests want it. */

import type { SmtpConfig } from '../../src/config/types.ts';

/** One without TLS and login, for three deliveries at a time, at a server on loopback. */
export function smtpConfig(server: { host: string; port: number }, changes: Partial<SmtpConfig> = {}): SmtpConfig {
  return {
    name: 'me',
    type: 'smtp',
    concurrency: 3,
    timeout: 5000,
    host: server.host,
    port: server.port,
    security: 'none',
    tls: { caFile: undefined, fingerprint: undefined, serverName: undefined, certFile: undefined, keyFile: undefined },
    auth: undefined,
    to: ['me@example.net'],
    from: { kind: 'address', address: 'ferry@example.net' },
    trace: true,
    helo: undefined,
    ...changes,
  };
}
