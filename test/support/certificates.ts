/**
 * Certificates made to order by the openssl binary: an authority, a server's certificate that it signs, one that signs
 * itself, a client's. For those that every test may share, see `tls.ts`.
 */

import { execFile } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tempDir } from './temp.ts';

export interface CertificateOptions {
  /** DNS names and IP addresses; an empty list makes a certificate without any. Default: localhost, 127.0.0.1, ::1. */
  readonly names?: readonly string[];
  /** Valid from now (negative: until that long ago; both a year at most). Default 30. */
  readonly days?: number;
  /** Valid only from that many days on. */
  readonly startsIn?: number;
  /** Also make a client's certificate with this common name, signed by the same authority. */
  readonly client?: string;
  /** No authority: the server's certificate signs itself. */
  readonly selfSigned?: boolean;
  /** Of the key: an elliptic curve (default), RSA of 2048 bits, or Ed25519. */
  readonly key?: 'ec' | 'rsa' | 'ed25519';
  /** The hash in the signature. Default sha256. */
  readonly digest?: 'sha1' | 'sha256' | 'sha384' | 'sha512';
}

/** Paths of PEM files, and what is in them. */
export interface Certificates {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Of the server's certificate, as the config writes it. */
  readonly fingerprint: string;
  /** The same files again if no client was asked for. */
  readonly clientCertFile: string;
  readonly clientKeyFile: string;
}

const run = promisify(execFile);
const made = new Map<string, Promise<Certificates>>();
let shared: Promise<string> | undefined;

/** The certificates for these options, made once a process. */
export function certificates(options: CertificateOptions = {}): Promise<Certificates> {
  const key = JSON.stringify(options);
  let promise = made.get(key);
  if (promise === undefined) {
    shared ??= tempDir();
    const name = createHash('sha256').update(key).digest('hex').slice(0, 12);
    promise = shared.then((dir) => makeCertificates(join(dir, name), options));
    made.set(key, promise);
  }
  return promise;
}

/** Makes them in `dir`, which is created. */
export async function makeCertificates(dir: string, options: CertificateOptions = {}): Promise<Certificates> {
  await mkdir(dir, { recursive: true });
  const names = options.names ?? ['localhost', '127.0.0.1', '::1'];
  const extension = names.map((name) => `${isIP(name) === 0 ? 'DNS' : 'IP'}:${name}`).join(',');
  const authority = [
    ['database', join(dir, 'index.txt')],
    ['new_certs_dir', dir],
    ['rand_serial', 'yes'],
    ['policy', 'policy'],
    ['copy_extensions', 'copy'],
    ['default_md', options.digest ?? 'sha256'],
    ['unique_subject', 'no'],
  ];
  const config = [
    '[req]',
    'distinguished_name=name',
    'prompt=no',
    '[name]',
    'CN=mailferry test',
    '[ca]',
    'default_ca=authority',
    '[authority]',
    ...authority.map((pair) => pair.join('=')),
    '[policy]',
    'commonName=optional',
    '[v3]',
    ...(extension === '' ? ['keyUsage=digitalSignature'] : [`subjectAltName=${extension}`]),
    '[v3_ca]',
    'basicConstraints=critical,CA:true',
    'keyUsage=critical,keyCertSign,cRLSign',
  ];
  await writeFile(join(dir, 'openssl.cnf'), config.join('\n'));
  await writeFile(join(dir, 'index.txt'), '');

  const at = (name: string): string => join(dir, name);
  const openssl = (...args: readonly string[]): Promise<unknown> =>
    run('openssl', args, { cwd: dir, env: { ...process.env, OPENSSL_CONF: at('openssl.cnf') } });
  const request = async (name: string, subject: string, section: string): Promise<void> => {
    await openssl('genpkey', ...keyArguments(options.key ?? 'ec'), '-out', at(`${name}-key.pem`));
    await openssl(
      'req',
      '-new',
      '-key',
      at(`${name}-key.pem`),
      '-subj',
      subject,
      '-reqexts',
      section,
      '-out',
      at(`${name}.csr`),
    );
  };
  const sign = (name: string, signer: readonly string[], days: number, startsIn = 0): Promise<unknown> => {
    const [start, end] = days < 0 ? [days - 10, days] : [startsIn - 1 / 24, startsIn + days];
    const validity = ['-startdate', openSslTime(start), '-enddate', openSslTime(end)];
    return openssl(
      'ca',
      '-batch',
      '-notext',
      ...signer,
      ...validity,
      '-in',
      at(`${name}.csr`),
      '-out',
      at(`${name}.pem`),
    );
  };

  const signer = ['-cert', at('ca.pem'), '-keyfile', at('ca-key.pem')];
  await request('ca', '/CN=mailferry test authority', 'v3_ca');
  await sign('ca', ['-selfsign', '-keyfile', at('ca-key.pem')], 365);
  await request('server', `/CN=${names[0] ?? 'nobody'}`, 'v3');
  const own = ['-selfsign', '-keyfile', at('server-key.pem')];
  await sign('server', options.selfSigned === true ? own : signer, options.days ?? 30, options.startsIn);
  if (options.client !== undefined) {
    await request('client', `/CN=${options.client}`, 'v3');
    await sign('client', signer, 30);
  }
  const client = options.client !== undefined ? 'client' : 'server';
  const cert = await readFile(at('server.pem'));
  return {
    caFile: at('ca.pem'),
    certFile: at('server.pem'),
    keyFile: at('server-key.pem'),
    cert,
    key: await readFile(at('server-key.pem')),
    fingerprint: new X509Certificate(cert).fingerprint256.replaceAll(':', '').toLowerCase(),
    clientCertFile: at(`${client}.pem`),
    clientKeyFile: at(`${client}-key.pem`),
  };
}

function keyArguments(key: 'ec' | 'rsa' | 'ed25519'): readonly string[] {
  switch (key) {
    case 'ec':
      return ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'];
    case 'rsa':
      return ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048'];
    case 'ed25519':
      return ['-algorithm', 'ED25519'];
  }
}

/** That many days from now, as `YYYYMMDDHHMMSSZ`. */
function openSslTime(days: number): string {
  const time = new Date(Date.now() + days * 24 * 60 * 60 * 1000);
  return `${time.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
}
