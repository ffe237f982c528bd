/** What compiling needs from outside: where relative paths start, and how a secret gets read. */

import type { SecretSource } from './fields.ts';
import type { Secret, TlsConfig } from './types.ts';

export interface Compiling {
  /** A secret that reads itself when asked. @param field for errors: `auth.password` */
  secret(source: SecretSource, field: string): Secret;
  /** An absolute path. */
  path(path: string): string;
  tls(options: TlsOptions): TlsConfig;
}

export interface TlsOptions {
  readonly caFile?: string | undefined;
  readonly fingerprint?: string | undefined;
  readonly serverName?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}
