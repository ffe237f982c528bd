/**
 * Breaks one rule of the promises after the other in a copy of the source, and shows that a test fails for each:
 * `npm run test:mutations`. A rule that can be broken unseen is a rule that nothing holds.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Mutation {
  readonly rule: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  readonly tests: readonly string[];
}

const MODEL = ['test/sync/model.test.ts'];
const ROOT = join(import.meta.dirname, '..');

const MUTATIONS: readonly Mutation[] = [
  {
    rule: 'every destination must confirm before the delete',
    file: 'src/sync/wanted.ts',
    find: 'else isOpen = true;',
    replace: 'else if (all.length === 1) isOpen = true;',
    tests: ['test/sync/wanted.test.ts', ...MODEL],
  },
  {
    rule: 'a confirmed delivery is not made again',
    file: 'src/sync/plan.ts',
    find: "      record?.state === 'confirmed' ||\n      record?.state === 'rejected' ||",
    replace: "      record?.state === 'rejected' ||",
    tests: MODEL,
  },
  {
    rule: 'a unique-id that came back after its message was deleted is doubted',
    file: 'src/sync/identity.ts',
    find: "if (entry.state === 'deleted' || entry.state === 'deleting' || entry.absences > 0) return true;",
    replace: '',
    tests: MODEL,
  },
  {
    rule: 'twins are told apart by fingerprint',
    file: 'src/sync/identity.ts',
    find: 'const candidates = entries.filter((each) => each.fingerprint === fingerprint);',
    replace: 'const candidates = entries.filter((each) => each.fingerprint !== "?");',
    tests: MODEL,
  },
  {
    rule: 'a changed size is doubted',
    file: 'src/sync/identity.ts',
    find: 'return row.size !== entry.size && row.size !== -1 && entry.size !== -1;',
    replace: 'return false;',
    tests: ['test/sync/identity.test.ts'],
  },
  {
    rule: 'one absence forgets nothing',
    file: 'src/sync/plan.ts',
    find: 'if (absences >= 2 && (isProved || now - absentSince >= DAY))',
    replace: 'if (absences >= 1)',
    tests: ['test/sync/plan.test.ts'],
  },
  {
    rule: 'an empty listing after a full one counts for nothing',
    file: 'src/sync/plan.ts',
    find: "if (entry.state !== 'deleted' && rows.length + quiet === 0 && !wasEmpty) return;",
    replace: '',
    tests: ['test/sync/plan.test.ts'],
  },
  {
    rule: 'a delete that QUIT did not prove is sent again',
    file: 'src/sync/plan.ts',
    find: "    case 'deleting':\n    case 'deleted':\n      return { do: 'delete', entry };",
    replace: "    case 'deleting':\n    case 'deleted':\n      return NOTHING;",
    tests: MODEL,
  },
  {
    rule: 'what was skipped is never delivered',
    file: 'src/sync/plan.ts',
    find: "if (first && policy.firstPoll === 'skip') {",
    replace: "if (first && policy.firstPoll === 'deliver') {",
    tests: ['test/sync/plan.test.ts'],
  },
  {
    rule: 'an illegal step throws',
    file: 'src/sync/entry.ts',
    find: 'if (!STEPS[entry.state].includes(state)) throw',
    replace: 'if (false) throw',
    tests: ['test/sync/entry.test.ts'],
  },
  {
    rule: 'a write under an old token is refused',
    file: 'src/store/scripts.ts',
    find: "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply",
    replace: 'if false then return redis.error_reply',
    tests: ['test/store/ledger.test.ts'],
  },
  {
    rule: 'a lease is given to one holder',
    file: 'src/store/scripts.ts',
    find: "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end",
    replace: '',
    tests: ['test/store/lease.test.ts'],
  },
  {
    rule: 'an attempt that a crash cut off counts as in doubt',
    file: 'src/sync/entry.ts',
    find: "+ (before?.state === 'started' ? 1 : 0)",
    replace: '+ 0',
    tests: ['test/sync/entry.test.ts'],
  },
  {
    rule: 'what a destination rejected is not confirmed',
    file: 'src/sync/settle.ts',
    find: "if (kind === 'confirmed') return conclude(",
    replace: "if (kind === 'confirmed' || kind === 'rejected') return conclude(",
    tests: ['test/sync/settle.test.ts'],
  },
  {
    rule: 'not an octet of a message before it is written that it begins',
    file: 'src/delivery/smtp-transaction.ts',
    find: '(await begun) === false',
    replace: '(begun as unknown) === false',
    tests: ['test/delivery/begun.test.ts'],
  },
  {
    rule: 'a destination that announces nothing hears of a delivery when it is written that it begins',
    file: 'src/delivery/limited.ts',
    find: 'if (!announces && ',
    replace: 'if (announces && ',
    tests: ['test/delivery/begun.test.ts'],
  },
  {
    rule: 'a request that went out in one piece may have arrived',
    file: 'src/delivery/webhook.ts',
    find: 'if (whole) progress.started = progress.complete = true;',
    replace: '',
    tests: ['test/delivery/webhook.test.ts'],
  },
  {
    rule: 'a request that was told to stop is not sent when its connection comes',
    file: 'src/delivery/http-exchange.ts',
    find: 'if (this.#stopped) controller.abort(asError(this.#stopped.reason));\n    else this',
    replace: 'this',
    tests: ['test/delivery/http-exchange.test.ts'],
  },
  {
    rule: 'the ledger writes what it was given',
    file: 'src/store/scripts.ts',
    find: 'both[2 * count] = field, field, value',
    replace: 'both[2 * count] = field, field, string.sub(value, 1, -2)',
    tests: ['test/store/ledger-faults.test.ts'],
  },
  {
    rule: 'a group lies in one hash at every moment',
    file: 'src/store/scripts.ts',
    find: "redis.call('HDEL', there, unpack(fields))",
    replace: '',
    tests: ['test/store/ledger-faults.test.ts'],
  },
  {
    rule: 'what goes out to an SMTP server together keeps its order',
    file: 'src/delivery/smtp-wire.ts',
    find: 'joined([first, ...others])',
    replace: 'joined([...others, first])',
    tests: ['test/delivery/ahead.test.ts'],
  },
  {
    rule: 'a message in one piece has its dots doubled',
    file: 'src/delivery/dot-stuffing.ts',
    find: 'found.length === 0 ? part.copy(data, at)',
    replace: 'found.length >= 0 ? part.copy(data, at)',
    tests: ['test/delivery/pure.test.ts'],
  },
  {
    rule: 'a header field is found by its name, blanks behind it aside',
    file: 'src/mail/header.ts',
    find: 'text.slice(from, colon).trimEnd()',
    replace: 'text.slice(from, colon)',
    tests: ['test/delivery/pure.test.ts'],
  },
  {
    rule: 'no more is retrieved than keeps the destinations busy',
    file: 'src/sync/session.ts',
    find: 'least: 32,',
    replace: 'least: 128,',
    tests: ['test/e2e/window.test.ts'],
  },
  {
    rule: 'more is retrieved where a destination would wait for it',
    file: 'src/sync/session.ts',
    find: 'this.#load.of(name) < parallel',
    replace: 'this.#load.of(name) < 0',
    tests: ['test/e2e/window.test.ts'],
  },
  {
    rule: 'a settled message is read as it was written',
    file: 'src/store/codec.ts',
    find: 'parseInt(size, 36) - 1',
    replace: 'parseInt(size, 36)',
    tests: ['test/store/ledger.test.ts'],
  },
  {
    rule: 'optional destinations alone confirm nothing',
    file: 'src/sync/wanted.ts',
    find: '(anyConfirmed || !isLeft)',
    replace: 'true',
    tests: ['test/sync/wanted.test.ts'],
  },
  {
    rule: 'a fallback is used once its destination has rejected',
    file: 'src/sync/wanted.ts',
    find: "if (next !== undefined && entry.deliveries[name]?.state === 'rejected' && !names.includes(next))",
    replace: 'if (next !== undefined && !names.includes(next))',
    tests: ['test/sync/wanted.test.ts'],
  },
  {
    rule: 'retries are spread by chance',
    file: 'src/sync/retry.ts',
    find: 'ceilingOf({ base, cap }, failures) * random',
    replace: 'ceilingOf({ base, cap }, failures) * 2',
    tests: ['test/sync/settle.test.ts'],
  },
  {
    rule: 'a delivery is given up after giveUpAfter',
    file: 'src/sync/retry.ts',
    find: 'now >= record.since + record.giveUpAfter',
    replace: 'false',
    tests: ['test/sync/settle.test.ts'],
  },
  {
    rule: 'a message ends at CRLF "." CRLF alone',
    file: 'src/pop3/framer.ts',
    find: "if (data[at + 1] !== CR) return 'stuffed';",
    replace: "if (data[at + 1] === LF) return 'end';\n  if (data[at + 1] !== CR) return 'stuffed';",
    tests: ['test/pop3/framer.test.ts'],
  },
  {
    rule: 'stuffed dots are taken away',
    file: 'src/pop3/framer.ts',
    find: "if (verdict === 'stuffed') from += 1;",
    replace: '',
    tests: ['test/pop3/framer.test.ts'],
  },
  {
    rule: 'nothing in the clear counts behind STLS',
    file: 'src/pop3/engine.ts',
    find: 'if (this.#framer.pending > 0 || this.#awaited.length + this.#unsent.length > 0) {',
    replace: 'if (false) {',
    tests: [
      'test/pop3/client.test.ts',
      'test/pop3/engine.test.ts',
      'test/pop3/tls.test.ts',
      'test/pop3/transcripts.test.ts',
    ],
  },
  {
    rule: 'a server must prove in SCRAM that it knows the password',
    file: 'src/pop3/authenticate.ts',
    find: 'if (mechanism.verified?.() === false)',
    replace: 'if (false)',
    tests: ['test/pop3/authenticate.test.ts'],
  },
  {
    rule: 'a dot that begins a line is doubled for SMTP',
    file: 'src/delivery/dot-stuffing.ts',
    find: 'return octet === DOT && last === LF ? INSERT_DOT : undefined;',
    replace: 'return undefined;',
    tests: ['test/delivery/pure.test.ts'],
  },
  {
    rule: 'an SMTP delivery is in doubt from the last octets on',
    file: 'src/delivery/smtp-transaction.ts',
    find: 'if (at + SLICE >= data.length) progress.complete = true;',
    replace: '',
    tests: ['test/delivery/smtp.test.ts'],
  },
  {
    rule: 'new mail at the end is believed only if the sum of sizes fits',
    file: 'src/sync/survey.ts',
    find: ' || octets !== stat.octets',
    replace: '',
    tests: ['test/e2e/tail.test.ts'],
  },
  {
    rule: 'recipients come from the domains of the config alone',
    file: 'src/delivery/multidrop.ts',
    find: 'isAddress(bare) && domains.includes(domain)',
    replace: 'isAddress(bare)',
    tests: ['test/delivery/transfer.test.ts'],
  },
  {
    rule: 'metadata services are never connected to',
    file: 'src/delivery/egress.ts',
    find: "return found === 'public' || (found === 'private' && allowPrivate);",
    replace: "return found === 'public' || allowPrivate;",
    tests: ['test/delivery/pure.test.ts'],
  },
  {
    rule: 'HTTP asks for its token',
    file: 'src/ops/http.ts',
    find: 'return timingSafeEqual(digest(given), digest(token));',
    replace: 'return given !== "";',
    tests: ['test/ops/http.test.ts'],
  },
  {
    rule: 'secrets are replaced in whatever is said',
    file: 'src/untrusted.ts',
    find: 'revealed.redact(text.slice(0, limit + BEYOND))',
    replace: 'text.slice(0, limit + BEYOND)',
    tests: ['test/untrusted.test.ts'],
  },
  {
    rule: 'DELE follows from the states that allow it alone',
    file: 'src/sync/entry.ts',
    find: "return STEPS[entry.state].includes('deleting');",
    replace: 'return true;',
    tests: ['test/sync/entry.test.ts'],
  },
  {
    rule: 'a QUIT that failed deleted nothing',
    file: 'src/sync/deletions.ts',
    find: 'error instanceof Failure ? (error.said ?? error.message) : reasonOf(error),\n      );\n      return 0;',
    replace: 'error instanceof Failure ? (error.said ?? error.message) : reasonOf(error),\n      );',
    tests: ['test/e2e/quit.test.ts'],
  },
  {
    rule: 'a destination that fails again and again is paused',
    file: 'src/sync/retry.ts',
    find: 'if (over < 0) return',
    replace: 'if (over < 1e9) return',
    tests: ['test/store/breakers.test.ts'],
  },
  {
    rule: 'what was staged is written in the end',
    file: 'src/store/ledger.ts',
    find: 'for (const uniqueId of this.#staged) this.#dirty.add(uniqueId);',
    replace: '',
    tests: ['test/store/ledger.test.ts'],
  },
  {
    rule: 'a unique-id of a server is bounded',
    file: 'src/pop3/listing.ts',
    find: 'rest.length <= UNIQUE_ID_LIMIT',
    replace: 'true',
    tests: ['test/pop3/listing.test.ts'],
  },
  {
    rule: 'a line of a server is bounded',
    file: 'src/pop3/framer.ts',
    find: '- from > LINE_LIMIT',
    replace: '- from > 1e12',
    tests: ['test/pop3/framer.test.ts'],
  },
  {
    rule: 'the embedded Redis is open to its user alone',
    file: 'src/store/embedded.ts',
    find: "unixsocketperm: '600'",
    replace: "unixsocketperm: '666'",
    tests: ['test/store/embedded.test.ts'],
  },
  {
    rule: 'mail on the disk is for its user alone',
    file: 'src/store/spool.ts',
    find: "open(this.#path, 'wx', 0o600)",
    replace: "open(this.#path, 'wx', 0o644)",
    tests: ['test/store/spool.test.ts'],
  },
  {
    rule: 'a slow HTTP request is ended',
    file: 'src/ops/http.ts',
    find: 'server.headersTimeout = 5000;',
    replace: 'server.headersTimeout = 0;',
    tests: ['test/ops/http.test.ts'],
  },
];

let output = '';

/** What these tests say of a copy of the project, after `change`. @param change false: there is nothing to change */
function verdict(tests: readonly string[], change: (copy: string) => boolean): 'caught' | 'missed' | 'stale' {
  const copy = mkdtempSync(join(tmpdir(), 'mutation-'));
  try {
    for (const name of ['src', 'test', 'package.json', 'tsconfig.json', 'config'])
      cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    if (!change(copy)) return 'stale';
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const result = spawnSync(process.execPath, ['--test', ...tests], {
      cwd: copy,
      env,
      encoding: 'utf8',
      timeout: 120_000,
    });
    output = result.stdout;
    return result.status === 0 ? 'missed' : 'caught';
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function run({ file, find, replace, tests }: Mutation): ReturnType<typeof verdict> {
  return verdict(tests, (copy) => {
    const path = join(copy, file);
    const source = readFileSync(path, 'utf8');
    if (!source.includes(find)) return false;
    writeFileSync(path, source.replace(find, replace));
    return true;
  });
}

// Tests that fail without a mutation would "catch" them all.
for (const file of new Set(MUTATIONS.flatMap(({ tests }) => tests))) {
  if (verdict([file], () => true) === 'missed') continue;
  process.stdout.write(`${output}\n${file} fails as it is: nothing that it says counts\n`);
  process.exit(1);
}

let failed = 0;
for (const mutation of MUTATIONS) {
  const found = run(mutation);
  if (found !== 'caught') failed += 1;
  process.stdout.write(`${found.padEnd(7)} ${mutation.rule}\n`);
}
process.stdout.write(`${MUTATIONS.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
