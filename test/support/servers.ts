/**
 * Real mail servers for tests: `servers/*.sh` started on free ports in temporary folders, fed and counted from outside,
 * and gone with the test process (`temp.ts`). Packages are installed when a server is first asked for.
 */

import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { accepts, freePort } from './ports.ts';
import { removeDir, tempDir } from './temp.ts';
import { until } from './wait.ts';

export const POP3_SERVERS = ['dovecot', 'courier', 'cyrus', 'popa3d', 'solid-pop3d', 'mailutils'] as const;
export type Pop3ServerName = (typeof POP3_SERVERS)[number];
export type ServerName = Pop3ServerName | 'postfix';

export interface ServerOptions {
  /** Mailboxes: u1 to uN with the passwords p1 to pN. Default 3. */
  readonly users?: number;
  /** The script's own options (see its head): `{ MECHS: 'plain', TLS: 'required', CERT_DAYS: '-1' }`. */
  readonly env?: Readonly<Record<string, string>>;
  /** Implicit TLS on `tlsPort`; default true. (STLS and STARTTLS are the scripts' matter: `TLS` in `env`.) */
  readonly tls?: boolean;
  /** Dovecot only: an LMTP server for the same mailboxes on `lmtpPort`. */
  readonly lmtp?: boolean;
  /** Dovecot only: XOAUTH2 and OAUTHBEARER, with a token server on `oauthPort`. */
  readonly oauth?: boolean;
  /** A folder to use, and to leave; left out: a new one that is removed at `stop`. */
  readonly dir?: string;
}

export interface ServerUser {
  readonly user: string;
  readonly pass: string;
  /** A Maildir, an mbox file or Cyrus's own folder, by server. */
  readonly maildir: string;
}

export interface RunningServer extends AsyncDisposable {
  readonly name: ServerName;
  readonly host: '127.0.0.1';
  readonly port: number;
  /** 0 if there is none. */
  readonly tlsPort: number;
  /** Where Dovecot with `TLS=required` is as strict as it says; else the same as `host`. */
  readonly strictHost: string;
  /** 0 if there is none. */
  readonly lmtpPort: number;
  readonly oauthPort: number;
  /** Path of the PEM file that the server's certificate verifies against. */
  readonly ca: string;
  readonly users: readonly ServerUser[];
  readonly dir: string;
  readonly pid: number;
  /** Puts messages (octets, or paths of files) into the maildrop, in this order. `raw`: octets as they are, no CRLF to LF. */
  deliver(
    user: string,
    messages: readonly (Uint8Array | string)[],
    options?: { readonly raw?: boolean },
  ): Promise<void>;
  /** Messages in the maildrop; for postfix those that arrived. */
  count(user: string): Promise<number>;
  /** The octets of each message as stored, oldest first. Only for servers with Maildirs: dovecot, courier, postfix. */
  stored(user: string): Promise<Buffer[]>;
  /** Ends the server and its sessions, and removes the folder if it was made here. */
  stop(): Promise<void>;
  /** Ends the server and its sessions as a crash would. */
  kill9(): Promise<void>;
  /** Starts it again on the same ports with the same mail, ending it first if it runs; `env` overrides single options. */
  restart(env?: Readonly<Record<string, string>>): Promise<void>;
}

interface Report {
  readonly pid: number;
  readonly ca: string;
  readonly strictHost?: string;
  readonly users: readonly ServerUser[];
}

const run = promisify(execFile);
const FILES_A_RUN = 500;

let reason: string | undefined | null = null;

/** Why the servers cannot run here; undefined: they can. For `{ skip: serversAvailable() ?? false }`. */
export function serversAvailable(): string | undefined {
  if (reason === null) reason = lookForReason();
  return reason;
}

function lookForReason(): string | undefined {
  if (process.platform !== 'linux' || !existsSync('/usr/bin/dpkg-deb')) {
    return "the mail servers are Debian's: not on this system";
  }
  if (process.getuid?.() !== 0) return 'the mail servers need root (users and mounts of their own)';
  const probe = spawnSync('unshare', ['--mount', '--pid', '--fork', 'true'], { stdio: 'ignore' });
  return probe.status === 0 ? undefined : 'the mail servers need mount and process namespaces of their own (unshare)';
}

/** Runs `servers/NAME.sh VERB ...` to its end; its standard output. What it says on standard error is in the error. */
async function script(name: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env; // else a `node` in there would speak to our test runner
  const path = join(import.meta.dirname, 'servers', `${name}.sh`);
  const { stdout } = await run(path, args, { env: { ...inherited, ...env }, maxBuffer: 16 * 1024 * 1024 });
  return stdout;
}

/** Downloads and unpacks a server's packages unless that is done. */
export async function installServer(name: ServerName): Promise<void> {
  await script(name, ['install'], {});
}

/** Installs the server if need be, starts it, and resolves when it answers. */
export async function startServer(name: ServerName, options: ServerOptions = {}): Promise<RunningServer> {
  const unavailable = serversAvailable();
  if (unavailable !== undefined) throw new Error(unavailable);
  await installServer(name);
  const dir = options.dir ?? (await tempDir());
  let server: Server | undefined;
  for (let tries = 1; server === undefined; tries++) {
    const candidate = new Server(name, dir, options, await freePorts(options));
    try {
      await candidate.start();
      server = candidate;
    } catch (error) {
      // somebody else may have been faster at a port; anything else would fail again
      if (tries === 3 || !/ is taken|Address already in use|EADDRINUSE/i.test(String(error))) throw error;
    }
  }
  return server;
}

interface Ports {
  readonly port: number;
  readonly tls: number;
  readonly lmtp: number;
  readonly oauth: number;
}

async function freePorts(options: ServerOptions): Promise<Ports> {
  return {
    port: await freePort(),
    tls: options.tls === false ? 0 : await freePort(),
    lmtp: options.lmtp === true ? await freePort() : 0,
    oauth: options.oauth === true ? await freePort() : 0,
  };
}

class Server implements RunningServer {
  readonly name: ServerName;
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly tlsPort: number;
  readonly lmtpPort: number;
  readonly oauthPort: number;
  readonly dir: string;
  readonly #ownDir: boolean;
  #env: Record<string, string>;
  #report: Report | undefined;
  #batches = 0;

  constructor(name: ServerName, dir: string, options: ServerOptions, ports: Ports) {
    this.name = name;
    this.dir = dir;
    this.#ownDir = options.dir === undefined;
    this.port = ports.port;
    this.tlsPort = ports.tls;
    this.lmtpPort = ports.lmtp;
    this.oauthPort = ports.oauth;
    this.#env = { USERS: String(options.users ?? 3), ...options.env };
    if (ports.lmtp !== 0) this.#env['LMTPPORT'] = String(ports.lmtp);
    if (ports.oauth !== 0) Object.assign(this.#env, { OAUTH: '1', OAUTHPORT: String(ports.oauth) });
  }

  async start(): Promise<void> {
    const ports = [this.port, this.tlsPort].filter((port) => port !== 0).map(String);
    this.#report = JSON.parse(await script(this.name, ['start', this.dir, ...ports], this.#env)) as Report;
  }

  get #started(): Report {
    if (this.#report === undefined) throw new Error(`${this.name} has not been started`);
    return this.#report;
  }

  get pid(): number {
    return this.#started.pid;
  }

  get ca(): string {
    return this.#started.ca;
  }

  get users(): readonly ServerUser[] {
    return this.#started.users;
  }

  get strictHost(): string {
    return this.#started.strictHost ?? this.host;
  }

  async deliver(
    user: string,
    messages: readonly (Uint8Array | string)[],
    options: { readonly raw?: boolean } = {},
  ): Promise<void> {
    const files: string[] = [];
    const written: string[] = [];
    const batch = String(this.#batches++);
    for (const [index, message] of messages.entries()) {
      if (typeof message === 'string') {
        files.push(message);
        continue;
      }
      const file = join(this.dir, `deliver.${batch}.${String(index)}`);
      await writeFile(file, message);
      files.push(file);
      written.push(file);
    }
    const env = { ...this.#env, ...(options.raw === true ? { RAW: '1' } : {}) };
    for (let start = 0; start < files.length; start += FILES_A_RUN) {
      await script(this.name, ['deliver', this.dir, user, ...files.slice(start, start + FILES_A_RUN)], env);
    }
    await Promise.all(written.map(removeDir));
  }

  async count(user: string): Promise<number> {
    return Number(await script(this.name, ['count', this.dir, user], this.#env));
  }

  async stored(user: string): Promise<Buffer[]> {
    const maildir = this.users.find((one) => one.user === user)?.maildir;
    if (maildir === undefined) throw new Error(`${this.name} has no user ${user}`);
    const found: { name: string; path: string }[] = [];
    for (const folder of ['new', 'cur']) {
      const path = join(maildir, folder);
      if (!existsSync(path)) continue; // nothing has ever arrived
      for (const name of await readdir(path)) found.push({ name, path: join(path, name) });
    }
    found.sort((a, b) => (a.name < b.name ? -1 : 1));
    return Promise.all(found.map(({ path }) => readFile(path)));
  }

  async stop(): Promise<void> {
    await script(this.name, ['stop', this.dir], this.#env);
    if (this.#ownDir) await removeDir(this.dir);
  }

  async kill9(): Promise<void> {
    for (const file of await readdir(this.dir)) {
      if (!/^pid(\.|$)/.test(file)) continue;
      const pid = Number(await readFile(join(this.dir, file), 'utf8'));
      if (isRunning(pid)) process.kill(pid, 'SIGKILL');
    }
    const ports = [this.port, this.tlsPort, this.lmtpPort, this.oauthPort].filter((port) => port !== 0);
    await until(async () => (await Promise.all(ports.map(accepts))).every((accepted) => !accepted), {
      what: `${this.name} is gone after kill -9`,
    });
  }

  async restart(env: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#env = { ...this.#env, ...env };
    await script(this.name, ['stop', this.dir], this.#env);
    await this.start();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false; // ESRCH: gone
  }
}
