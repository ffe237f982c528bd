/** What goes together of encryption, port and password: the same for accounts and SMTP destinations. */

import { isLoopback } from './address.ts';
import { doubtful, wrong } from './finding.ts';
import type { Finding } from './finding.ts';
import type { Security } from './types.ts';

type Ports = Readonly<Record<Security, number>>;

interface Options {
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly security?: Security | undefined;
  readonly caFile?: string | undefined;
  readonly fingerprint?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** @param hasPassword whether a login goes over this connection */
export function securityFindings(options: Options, hasPassword: boolean, ports: Ports): Finding[] {
  const { host, port, security } = options;
  const findings: Finding[] = [];
  if (security === 'none' && host !== undefined && !isLoopback(host)) {
    const what = hasPassword ? 'sends the password and all mail' : 'sends all mail';
    findings.push(doubtful(['security'], `${what} unencrypted`, 'use tls or starttls where the server can'));
  }
  // the wrong pair hangs until the timeout, or fails with words that explain nothing
  if (security === 'tls' && port !== undefined && port !== ports.tls && Object.values(ports).includes(port)) {
    findings.push(doubtful(['port'], 'seldom speaks TLS at once', `use ${ports.tls}, or \`security: starttls\``));
  }
  if (security !== undefined && security !== 'tls' && port === ports.tls) {
    findings.push(doubtful(['port'], 'is where TLS starts at once', 'use `security: tls`'));
  }
  if (security === 'none') {
    for (const field of ['caFile', 'fingerprint', 'certFile', 'keyFile'] as const) {
      if (options[field] === undefined) continue;
      findings.push(doubtful([field], 'has no effect with `security: none`', 'use `security: tls` or `starttls`'));
    }
  }
  findings.push(...certificateFindings(options));
  return findings;
}

/** A client certificate and its key come together. */
export function certificateFindings({ certFile, keyFile }: Options): Finding[] {
  if ((certFile === undefined) === (keyFile === undefined)) return [];
  const missing = certFile === undefined ? 'certFile' : 'keyFile';
  const given = certFile === undefined ? 'keyFile' : 'certFile';
  return [wrong([missing], 'is missing', `\`${given}\` is of no use without it`)];
}
