// Makes a fresh clone ready, then runs a command in it: `node test/setup.mjs LEVEL COMMAND [ARG...]`.
//   packages   the npm packages, among them a Node of the version that this project needs
//   demo       and redis-server
//   test       and the mail servers that the tests talk to
//   bench      packages, Redis, and what mailferry is compared with
// Plain JavaScript without a dependency, because any Node from 18 on must be able to run it, with nothing installed yet.
// It says what it installs and is silent when nothing is missing. Only root on Debian gets system packages installed;
// everybody else is told which ones to install.

import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const BIN = join(ROOT, 'node_modules', '.bin');
const NODE_NEEDED = 24;
const LEVELS = ['packages', 'demo', 'test', 'bench'];
const MAIL_SERVERS = ['dovecot', 'courier', 'cyrus', 'popa3d', 'solid-pop3d', 'mailutils', 'postfix'];
// program: package
const BENCH_TOOLS = {
  gcc: 'gcc libc6-dev',
  python3: 'python3',
  fetchmail: 'fetchmail',
  getmail: 'getmail6',
  mpop: 'mpop',
  msmtp: 'msmtp',
  fdm: 'fdm',
};
const SERVER_SCRIPTS = join(ROOT, 'test', 'support', 'servers');

// npm puts node_modules/.bin first when it runs us; what installs there must not run from there.
const outerPath = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((dir) => !dir.endsWith(join('node_modules', '.bin')));
const outside = { ...process.env, PATH: outerPath.join(delimiter) };
const inside = { ...process.env, PATH: [BIN, ...outerPath].join(delimiter) };

function say(line) {
  process.stderr.write(`set-up: ${line}\n`);
}

function fail(line) {
  say(line);
  process.exit(1);
}

/** Runs a program; whether it ended well. What it said is shown only if not. */
function run(program, args, options = {}) {
  const settings = { cwd: ROOT, env: outside, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 26 };
  const { status, error, stdout, stderr } = spawnSync(program, args, { ...settings, ...options });
  if (status !== 0) process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  if (error) say(`${program}: ${error.message}`);
  return status === 0;
}

/** The first line that a program prints with these arguments; undefined if it cannot be run. */
function answer(program, args, env = outside) {
  const { status, stdout } = spawnSync(program, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? stdout.trim() : undefined;
}

// ---- npm packages ----

/** Whether node_modules holds what the lock file asks for (packages for other platforms aside). */
function packagesInstalled() {
  try {
    const read = (...path) => JSON.parse(readFileSync(join(ROOT, ...path), 'utf8')).packages;
    const wanted = Object.entries(read('package-lock.json'));
    const present = read('node_modules', '.package-lock.json');
    return wanted.every(([path, { version, optional }]) => {
      return path === '' || present[path]?.version === version || (optional && present[path] === undefined);
    });
  } catch {
    return false; // never installed, or not to its end
  }
}

function installPackages() {
  if (packagesInstalled()) return;
  say('installing the npm packages');
  // Not `npm ci`, which takes node_modules away first: from under a worker that runs from here.
  const done = run('npm', ['install', '--no-save', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']);
  if (!done || !packagesInstalled()) fail('npm could not install the packages (see above)');
}

function nodeVersion() {
  return Number.parseInt(answer('node', ['--version'], inside)?.slice(1) ?? '0', 10);
}

function installNode() {
  if (nodeVersion() >= NODE_NEEDED) return;
  say(`fetching Node ${NODE_NEEDED} as an npm package`); // its install script did not run: npm may be set to run none
  run(process.execPath, ['installArchSpecificPackage.js'], { cwd: join(ROOT, 'node_modules', 'node') });
  if (nodeVersion() < NODE_NEEDED) fail(`Node ${NODE_NEEDED} is needed and could not be installed: install it by hand`);
}

// ---- system packages ----

const mayInstall = process.getuid?.() === 0 && existsSync('/usr/bin/apt-get');

/** apt-get install, with a policy that keeps the package from starting a service. */
function aptInstall(...names) {
  const env = { ...outside, DEBIAN_FRONTEND: 'noninteractive' };
  const args = ['-qq', '-y', '--no-install-recommends', '-o', 'Dpkg::Use-Pty=0', '-o', 'DPkg::Lock::Timeout=120'];
  const policy = '/usr/sbin/policy-rc.d';
  const ours = !existsSync(policy);
  if (ours) {
    writeFileSync(policy, '#!/bin/sh\nexit 101\n');
    chmodSync(policy, 0o755);
  }
  try {
    const install = () => run('apt-get', [...args, 'install', ...names], { env });
    return install() || (run('apt-get', ['-qq', 'update'], { env }) && install());
  } finally {
    if (ours) rmSync(policy, { force: true });
  }
}

/** Whether Redis is there in the end. */
function installRedis() {
  const present = () => ['redis-server', 'valkey-server'].some((name) => answer(name, ['--version']) !== undefined);
  if (present()) return true;
  if (!mayInstall) {
    say('redis-server is missing: install it with your package manager (Debian: apt-get install redis-server)');
    return false;
  }
  say('installing redis-server');
  return aptInstall('redis-server') && present();
}

/** Installs what it can: a test whose server is missing says so itself, by failing or by skipping with the reason. */
function installMailServers() {
  if (!mayInstall) {
    say('the mail servers of the tests need root on Debian: tests that talk to Dovecot, Postfix and so on are skipped');
    return;
  }
  for (const name of MAIL_SERVERS) {
    const script = join(SERVER_SCRIPTS, `${name}.sh`);
    if (answer(script, ['installed']) !== undefined) continue;
    say(`installing ${name} for the tests (unpacked in a folder of its own, no service is started)`);
    if (!run(script, ['install'])) say(`${name} could not be installed: its tests will fail`);
  }
}

function installBenchTools() {
  const isThere = (name) => outerPath.some((dir) => existsSync(join(dir, name)));
  const packages = Object.keys(BENCH_TOOLS)
    .filter((name) => !isThere(name))
    .flatMap((name) => BENCH_TOOLS[name].split(' '));
  if (packages.length === 0) return;
  if (!mayInstall) fail(`the bench needs these Debian packages: ${packages.join(' ')}`);
  say(`installing for the bench: ${packages.join(' ')}`);
  if (!aptInstall(...packages)) fail('they could not be installed (see above)');
}

// ---- the command ----

const [level, program, ...args] = process.argv.slice(2);
if (!LEVELS.includes(level) || program === undefined) fail(`usage: setup.mjs ${LEVELS.join('|')} COMMAND [ARG...]`);

installPackages();
installNode();
if (level !== 'packages') {
  const redis = installRedis();
  if (level !== 'test' && !redis) fail('nothing goes on without it');
  if (level === 'test') installMailServers();
  if (level === 'bench') installBenchTools();
}

const child = spawn(program, args, { cwd: ROOT, env: inside, stdio: 'inherit' });
child.on('error', (error) => fail(`${program}: ${error.message}`));
// A terminal's Ctrl-C reaches the command by itself; this process stays until that has ended.
process.on('SIGINT', () => undefined);
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => {
  process.exitCode = code ?? 128 + constants.signals[signal];
});
