// The architecture, held by reading the imports of src/. The tables come first; what they mean is said above each.
// A new file counts as pure until it is listed as an edge.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';

/**
 * Files that touch the world: sockets, files, Redis, processes, time, chance. By folder, `*` for all of it. Every other
 * file is pure: a function of its arguments that imports only pure files.
 */
const EDGES: Readonly<Record<string, string>> = {
  '': 'alerting app main version worker',
  cli: '*',
  config: 'examine files folder generate load read-bounded reveal run source watch',
  delivery:
    'content deadline dial http-connector http-exchange http-tunnel imap limited lmtp maildir open pool smtp smtp-errors smtp-session smtp-transaction smtp-wire ' +
    'tls transfer webhook webhook-body webhook-message webhook-multipart',
  demo: 'course demo maildrop narrator sandbox scratch smtp-receiver webhook-receiver',
  mail: '',
  ops: 'alerts-watch events footprint heartbeat http log',
  pop3: 'authenticate authorize channel-binding client connect deadline engine listing peer-certificate proxy tls',
  queue: '*',
  store: 'breakers embedded lease ledger markers redis spool',
  sync: 'deletions hold poll session survey transfer window',
};

/** What a pure file may import at run time besides pure files: by library, the names, or everything. */
const PURE_LIBRARIES: Readonly<Record<string, readonly string[] | 'everything'>> = {
  'node:buffer': ['isAscii'],
  'node:crypto': ['createHash', 'createHmac', 'hash', 'pbkdf2', 'timingSafeEqual'],
  // to load a pure library only where it is needed
  'node:module': ['createRequire'],
  'node:net': ['isIP', 'isIPv4', 'isIPv6', 'BlockList'],
  'node:path': 'everything',
  'node:url': 'everything',
  'node:util': 'everything',
  '@mongodb-js/saslprep': 'everything',
  cron: 'everything',
  'nodemailer/lib/addressparser': 'everything',
  yaml: 'everything',
  zod: 'everything',
};

/** Time, chance and environment, which a pure file gets as arguments. */
const WORLD =
  /\b(Date\.now|new Date\(\)|Math\.random|performance\.|process\.|setTimeout|setInterval|setImmediate|fetch\()/;

/** The only files that build and wire things: they may import everything, and only they import each other. */
const WIRING = ['alerting', 'app', 'main', 'worker', 'cli/*', 'demo/demo'];

/**
 * What the edges of a folder may import from other folders besides pure files. `types` are imports that vanish at run
 * time: the contracts. Adapters (pop3, delivery, store, queue, config, ops) know no other adapter; `sync` works with
 * adapters through their types and is handed the real ones by the wiring.
 */
const MAY_IMPORT: Readonly<Record<string, { readonly code: readonly string[]; readonly types: readonly string[] }>> = {
  config: { code: [], types: [] },
  delivery: { code: [], types: [] },
  // the story is the worker's own events, told in other words
  demo: { code: ['ops/events'], types: [] },
  ops: { code: [], types: [] },
  pop3: { code: [], types: [] },
  queue: { code: [], types: [] },
  store: { code: [], types: [] },
  // the hold is the lease with the ledger that it fences; events are how the poll says what it does
  sync: {
    code: ['ops/events', 'store/lease', 'store/ledger'],
    types: ['delivery/*', 'ops/events', 'pop3/*', 'store/*'],
  },
};

/** The places that know how to talk to a mailbox, to a destination and to the store. Only the poll knows all three. */
const THREE = ['pop3', 'delivery', 'store'];
const KNOWS_ALL_THREE = ['sync/poll'];

const MAX_LINES = 400;
const VAGUE_NAMES = /(^|\/)(index|utils?|helpers?|lib|common|misc|interfaces?|constants)(\.|\/|$)/;

// ---- reading ----

interface Import {
  readonly typeOnly: boolean;
  /** Of this project: the path below src, without `.ts`. Otherwise undefined. */
  readonly file: string | undefined;
  readonly library: string | undefined;
  readonly names: readonly string[];
}

interface Source {
  /** The path below src, without `.ts`. */
  readonly path: string;
  readonly folder: string;
  readonly text: string;
  /** Without comments and the contents of strings. */
  readonly code: string;
  readonly imports: readonly Import[];
}

const SRC = join(import.meta.dirname, '..', 'src');
const IMPORT = /^(?:import|export)\s+(?<type>type\s+)?(?:(?<what>[^;'"]*?)\sfrom\s+)?'(?<from>[^']+)'/gm;
const DYNAMIC = /\bimport\('(?<from>[^']+)'\)/g;

const sources: readonly Source[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .toSorted()
  .map((name) => read(name));
const byPath = new Map(sources.map((source) => [source.path, source]));

function read(name: string): Source {
  const path = name.replace(/\.ts$/, '');
  const text = readFileSync(join(SRC, name), 'utf8');
  const code = text.replaceAll(/\/\*[\s\S]*?\*\/|(?<![:'"`])\/\/.*|'(?:[^'\\\n]|\\.)*'/g, '');
  const imports = [...text.matchAll(IMPORT), ...text.matchAll(DYNAMIC)].map(({ groups = {} }): Import => {
    const from = groups['from'] ?? '';
    const internal = from.startsWith('.');
    const names = (groups['what'] ?? '').replaceAll(/[{}]/g, '').split(',');
    return {
      typeOnly: groups['type'] !== undefined,
      file: internal ? normalize(join(dirname(path), from)).replace(/\.ts$/, '') : undefined,
      library: internal ? undefined : from,
      names: names
        .map((one) => one.trim().replace(/ as .*/, ''))
        .filter((one) => one !== '' && !one.startsWith('type ')),
    };
  });
  return { path, folder: path.includes('/') ? path.replace(/\/.*/, '') : '', text, code, imports };
}

function isListed(path: string, list: readonly string[]): boolean {
  return list.some((entry) => entry === path || (entry.endsWith('/*') && path.startsWith(entry.slice(0, -1))));
}

function isEdge(path: string): boolean {
  const folder = path.includes('/') ? path.replace(/\/.*/, '') : '';
  const names = EDGES[folder]?.split(' ');
  assert.ok(names, `src/${folder} is not in the tables of test/house.test.ts: say what it may import`);
  return names.includes('*') || names.includes(path.slice(folder === '' ? 0 : folder.length + 1));
}

const isWiring = (path: string): boolean => isListed(path, WIRING);

/** The broken rules, a line each: the test's message is the list. */
function broken(check: (source: Source) => readonly string[]): string[] {
  return sources.flatMap((source) => check(source).map((what) => `src/${source.path}.ts ${what}`));
}

// ---- the rules ----

describe('the house', () => {
  test('a pure file imports only pure files and pure libraries', () => {
    const found = broken(({ path, imports }) => {
      if (isEdge(path)) return [];
      return imports.flatMap(({ file, library, names, typeOnly }) => {
        if (file !== undefined) return isEdge(file) ? [`is pure but imports ${file}, which is not`] : [];
        if (typeOnly || library === undefined) return [];
        const allowed = PURE_LIBRARIES[library];
        if (allowed === undefined) return [`is pure but imports ${library}`];
        return names
          .filter((name) => allowed !== 'everything' && !allowed.includes(name))
          .map((name) => `is pure but imports ${name} of ${library}`);
      });
    });
    assert.deepEqual(found, []);
  });

  test('a pure file gets time, chance and environment as arguments', () => {
    const found = broken(({ path, code }) => {
      const world = isEdge(path) ? undefined : WORLD.exec(code)?.[0];
      return world === undefined ? [] : [`is pure but says ${world}`];
    });
    assert.deepEqual(found, []);
  });

  test('an edge imports from other folders only pure files and what its table allows', () => {
    const found = broken(({ path, folder, imports }) => {
      if (!isEdge(path) || isWiring(path) || folder === '') return [];
      const allowed = MAY_IMPORT[folder];
      assert.ok(allowed, `src/${folder} has no row in MAY_IMPORT`);
      return imports.flatMap(({ file, typeOnly }) => {
        if (file === undefined || file.startsWith(`${folder}/`) || !isEdge(file)) return [];
        return isListed(file, typeOnly ? [...allowed.types, ...allowed.code] : allowed.code) ? [] : [`imports ${file}`];
      });
    });
    assert.deepEqual(found, []);
  });

  test('only wiring imports wiring', () => {
    const found = broken(({ path, imports }) => {
      if (isWiring(path)) return [];
      return imports
        .filter(({ file }) => file !== undefined && isWiring(file))
        .map(({ file }) => `imports ${String(file)}`);
    });
    assert.deepEqual(found, []);
  });

  test('only the poll knows mailbox, destination and store at once', () => {
    const found = broken(({ path, imports }) => {
      if (isWiring(path) || KNOWS_ALL_THREE.includes(path)) return [];
      const known = THREE.filter((folder) => imports.some(({ file }) => file?.startsWith(`${folder}/`)));
      return known.length === THREE.length ? [`knows ${known.join(', ')}`] : [];
    });
    assert.deepEqual(found, []);
  });

  test('no cycles at run time', () => {
    const done = new Set<string>();
    function visit(path: string, trail: readonly string[]): string[] {
      const at = trail.indexOf(path);
      if (at !== -1) return [[...trail.slice(at), path].join(' -> ')];
      if (done.has(path)) return [];
      const next = (byPath.get(path)?.imports ?? []).filter(({ typeOnly, names }) => !typeOnly && names.length > 0);
      const cycles = next.flatMap(({ file }) => (file === undefined ? [] : visit(file, [...trail, path])));
      done.add(path);
      return cycles;
    }
    assert.deepEqual(
      sources.flatMap(({ path }) => visit(path, [])),
      [],
    );
  });

  test('no barrel files and no vague names', () => {
    const found = broken(({ path, code }) => [
      ...(/^export\s.*\sfrom\b/m.test(code) ? ['passes on what others export'] : []),
      ...(VAGUE_NAMES.test(path) ? ['has a name that says nothing'] : []),
    ]);
    assert.deepEqual(found, []);
  });

  test('files are short, and open by saying what they are', () => {
    const found = broken(({ text }) => {
      const lines = text.split('\n').length - 1;
      return [
        ...(lines > MAX_LINES ? [`has ${String(lines)} lines, more than ${String(MAX_LINES)}`] : []),
        ...(/^(#!.*\n)?\/\*\*|^(#!.*\n)?\/\//.test(text) ? [] : ['does not open with a comment']),
      ];
    });
    assert.deepEqual(found, []);
  });
});

describe('the tables themselves', () => {
  test('name only files that exist', () => {
    const listed = Object.entries(EDGES).flatMap(([folder, names]) =>
      names
        .split(/[ *]+/)
        .filter(Boolean)
        .map((name) => (folder === '' ? name : `${folder}/${name}`)),
    );
    assert.deepEqual(
      [...listed, ...KNOWS_ALL_THREE].filter((path) => !byPath.has(path)),
      [],
    );
  });

  test('the reader sees every kind of import', () => {
    const poll = byPath.get('sync/poll');
    assert.ok(poll?.imports.some(({ file, typeOnly }) => file === 'config/types' && typeOnly));
    assert.ok(poll?.imports.some(({ file, typeOnly }) => file === 'failure' && !typeOnly));
    assert.ok(byPath.get('cli/dispatch')?.imports.some(({ file }) => file === 'cli/run'));
    assert.ok(byPath.get('store/redis')?.imports.some(({ library }) => library === 'ioredis'));
  });
});
