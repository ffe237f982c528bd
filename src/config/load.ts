/**
 * Loads the config: finds it, reads it, checks it, compiles it. Tells all problems at once; what is wrong within one
 * account or destination, or in the alerts, leaves out that alone. Never reads a secret's value, and runs no program.
 */

import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { compileConfig } from './compile.ts';
import type { CompilingFor } from './compile.ts';
import { examine } from './examine.ts';
import { pathKey, wrong } from './finding.ts';
import type { Finding } from './finding.ts';
import { mergeTrees } from './merge.ts';
import { leftOut, problemOf, sortProblems } from './problems.ts';
import type { Ground } from './problems.ts';
import { references } from './references.ts';
import { namedIn } from './rule.ts';
import { reveal } from './reveal.ts';
import { ConfiguredSecret } from './secret.ts';
import { readSource } from './source.ts';
import type { Source } from './source.ts';
import { parseTree } from './tree.ts';
import type { Tree } from './tree.ts';
import type { Loaded, Problem } from './types.ts';
import { validate } from './validate.ts';
import type { Validated } from './validate.ts';

/**
 * Loads the config at `path`, else at `MAILFERRY_CONFIG`, else `config/mailferry.yaml` in `cwd`, else
 * `/etc/mailferry/mailferry.yaml`. Throws only on bugs: all that can be wrong with a config is a problem.
 */
export async function loadConfig(path: string | undefined, env: NodeJS.ProcessEnv, cwd: string): Promise<Loaded> {
  const { source, findings, ...rest } = await readSource(path, env, cwd);
  if (source === undefined) return failed(findings, 'shown' in rest ? rest.shown : '');
  const parsed = source.files.map((file) => parseTree(file.text, file.shown));
  const broken = [...findings, ...parsed.flatMap((one) => one.findings)];
  if (broken.length > 0) return failed(broken, source.shown);
  const tree = mergeTrees(parsed.flatMap((one) => (one.tree === undefined ? [] : [one.tree])));
  return loadTree(tree, source, env);
}

function failed(findings: readonly Finding[], shown: string): Loaded {
  const ground: Ground = { root: undefined, places: new Map(), source: shown };
  return { config: undefined, problems: sortProblems(findings.map((finding) => problemOf(finding, ground))) };
}

async function loadTree(tree: Tree, source: Source, env: NodeJS.ProcessEnv): Promise<Loaded> {
  const home = env['HOME'] || homedir();
  const absolute = (path: string): string => resolve(source.folder, path.replace(/^~(?=\/)/, home));
  const validated = validate(tree.value);
  const told = new Set(tree.findings.map(({ path }) => pathKey(path)));
  const findings = [
    ...tree.findings,
    ...validated.findings.filter(({ path }) => !told.has(pathKey(path))),
    ...(await examine(references(tree.value), tree.places, source.files, env, absolute)),
  ];
  const dataDir = dataDirOf(validated.settings?.dataDir, env, absolute);
  if (dataDir === undefined) {
    findings.push(wrong(['dataDir'], 'is missing, and there is no home folder to put it in', 'write `dataDir: /data`'));
  }
  const remaining = withoutLeftOut(validated, findings);
  const ground: Ground = { root: tree.value, places: tree.places, source: source.shown };
  const problems = sortProblems(findings.map((finding) => problemOf(finding, ground)));
  const isFatal = ({ severity, leavesOut }: Problem): boolean => severity === 'error' && leavesOut === undefined;
  if (validated.settings === undefined || dataDir === undefined || problems.some(isFatal)) {
    return { config: undefined, problems };
  }
  const compilingFor: CompilingFor = (scope, prefix) => ({
    path: absolute,
    secret: (from, field) =>
      new ConfiguredSecret(from, () =>
        reveal(from, { scope, field: `${prefix}${field}` }, { env, folder: source.folder, path: absolute }),
      ),
    tls: (options) => ({
      caFile: options.caFile === undefined ? undefined : absolute(options.caFile),
      fingerprint: options.fingerprint,
      serverName: options.serverName,
      certFile: options.certFile === undefined ? undefined : absolute(options.certFile),
      keyFile: options.keyFile === undefined ? undefined : absolute(options.keyFile),
    }),
  });
  return { config: compileConfig(remaining, validated.settings, source.shown, dataDir, compilingFor), problems };
}

/** What is there that no finding leaves out; adds findings for accounts whose destination is left out. */
function withoutLeftOut(validated: Validated, findings: Finding[]): Pick<Validated, 'destinations' | 'accounts'> {
  const out = { account: new Set<string>(), destination: new Set<string>(), alerts: new Set<string>() };
  for (const { severity, path } of findings) {
    const entry = severity === 'error' ? leftOut(path) : undefined;
    if (entry !== undefined) out[entry.kind].add(entry.name);
  }
  for (const { name, options } of validated.accounts) {
    if (out.account.has(name)) continue;
    for (const destination of options.deliverTo.flatMap(namedIn).map((named) => named.name)) {
      if (!out.destination.has(destination)) continue;
      const message = `is left out, since its destination \`${destination}\` is`;
      findings.push(wrong(['accounts', name], message, 'correct the destination'));
      out.account.add(name);
    }
  }
  return {
    destinations: validated.destinations.filter(({ name }) => !out.destination.has(name)),
    accounts: validated.accounts.filter(({ name }) => !out.account.has(name)),
  };
}

function dataDirOf(
  configured: string | undefined,
  env: NodeJS.ProcessEnv,
  absolute: (path: string) => string,
): string | undefined {
  if (configured !== undefined) return absolute(configured);
  const given = env['MAILFERRY_DATA_DIR'] || env['STATE_DIRECTORY']?.split(':')[0];
  if (given) return resolve(given);
  const state = env['XDG_STATE_HOME'];
  if (state !== undefined && isAbsolute(state)) return join(state, 'mailferry');
  const home = env['HOME'] || homedir();
  return isAbsolute(home) && home !== '/' ? join(home, '.local', 'state', 'mailferry') : undefined;
}
