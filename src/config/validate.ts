/**
 * A config as it is written to one that is checked: every finding at once, and the options of all that is right. Pure:
 * secrets and files are only named here (`references`), not looked at.
 */

import { namedIn } from './rule.ts';
import { accountSchema, defaultsSchema } from './account.ts';
import type { AccountOptions } from './account.ts';
import { credentialFindings } from './credentials.ts';
import { KINDS } from './destinations/kinds.ts';
import { NAME_PATTERN } from './fields.ts';
import { doubtful, under, wrong } from './finding.ts';
import type { Finding, Path } from './finding.ts';
import { inspectFields } from './inspect-fields.ts';
import { isGroup } from './options.ts';
import type { Group } from './options.ts';
import { sharedMaildrops } from './maildrop.ts';
import { settingsFindings, settingsSchema } from './schema.ts';
import type { Settings } from './schema.ts';
import { securityFindings } from './security.ts';
import { listed, nearest } from './suggest.ts';

/** An entry whose options are right in themselves. */
export interface Valid<T> {
  readonly name: string;
  readonly options: T;
}

export interface Validated {
  /** Undefined if nothing can run. */
  readonly settings: Settings | undefined;
  readonly destinations: readonly (Valid<Record<string, unknown>> & { readonly type: string })[];
  readonly accounts: readonly Valid<AccountOptions>[];
  readonly findings: readonly Finding[];
}

const POP3_PORTS = { tls: 995, starttls: 110, none: 110 } as const;

/** Checks the whole of what the files hold. */
export function validate(root: unknown): Validated {
  const findings: Finding[] = [];
  if (!isGroup(root)) {
    const message =
      root === null || root === undefined ? 'holds no config' : 'is a list or text where fields are wanted';
    findings.push(wrong([], message, 'write `destinations:` and `accounts:`; config/mailferry.example.yaml shows how'));
    return { settings: undefined, destinations: [], accounts: [], findings };
  }
  const { accounts, destinations, ...rest } = root;
  const names = isGroup(destinations) ? Object.keys(destinations) : [];
  const settings = validateSettings(rest, names, findings);
  const validDestinations = section('destinations', destinations, findings).flatMap(([name, entry]) => {
    const valid = validateDestination(name, entry, findings);
    return valid === undefined ? [] : [valid];
  });
  const defaults = isGroup(root['defaults']) ? root['defaults'] : {};
  findings.push(...unknownDestinations(['defaults', 'deliverTo'], defaults['deliverTo'], names));
  const validAccounts = section('accounts', accounts, findings).flatMap(([name, entry]) => {
    const valid = validateAccount(name, entry, defaults, names, findings);
    return valid === undefined ? [] : [valid];
  });
  findings.push(...sharedFindings(validAccounts));
  if (isEmpty(accounts)) {
    findings.push(doubtful(['accounts'], 'holds no account: there is nothing to poll', 'add an account'));
  }
  return { settings, destinations: validDestinations, accounts: validAccounts, findings };
}

/** Two accounts of one maildrop take each other's mail: a warning, since with `keep` that may be meant. */
function sharedFindings(accounts: readonly Valid<AccountOptions>[]): Finding[] {
  const maildrops = sharedMaildrops(
    accounts.map(({ name, options: { host, port, security, user } }) => ({
      name,
      host,
      port: port ?? POP3_PORTS[security],
      user,
    })),
  );
  return [...maildrops.values()].flatMap(([first = '', ...others]) =>
    others.map((name) =>
      doubtful(
        ['accounts', name, 'user'],
        `is the same maildrop as account \`${first}\`: what one deletes, the other never gets`,
        'keep one account, with all destinations in its `deliverTo`',
      ),
    ),
  );
}

function isEmpty(accounts: unknown): boolean {
  return accounts === undefined || accounts === null || (isGroup(accounts) && Object.keys(accounts).length === 0);
}

function validateSettings(raw: Group, destinations: readonly string[], findings: Finding[]): Settings | undefined {
  const { defaults, ...rest } = raw;
  // a section whose fields are all commented out is an empty one
  const present = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null));
  const { values, findings: own } = inspectFields(settingsSchema, present, {
    alsoKnown: ['accounts', 'destinations'],
    home: homeOf,
  });
  const found = [...own, ...settingsFindings(values)];
  if (isGroup(raw['alerts']))
    found.push(...unknownDestinations(['alerts', 'deliverTo'], raw['alerts']['deliverTo'], destinations));
  if (defaults !== undefined && defaults !== null) found.push(...defaultsFindings(defaults));
  findings.push(...found);
  // Mail goes on without alerts.
  const { alerts = [], others = [] } = Object.groupBy(found, ({ path }) => (path[0] === 'alerts' ? path[0] : 'others'));
  if (hasErrors(others)) return undefined;
  const settings = values as Settings;
  return hasErrors(alerts) ? { ...settings, alerts: undefined } : settings;
}

function defaultsFindings(raw: unknown): Finding[] {
  if (!isGroup(raw)) return [wrong(['defaults'], 'is not a group of fields', 'for example `defaults: { every: 2m }`')];
  const { values, findings } = inspectFields(defaultsSchema, raw, {
    home: (field) => (['user', 'password', 'accessToken'].includes(field) ? 'write it into each account' : undefined),
  });
  return under(['defaults'], [...findings, ...scheduleFindings(values, raw)]);
}

/** Where an option that is unknown at the root belongs. */
function homeOf(field: string): string | undefined {
  if (field in accountSchema.shape) return 'it belongs in an account, or under `defaults`';
  for (const [type, { schema }] of KINDS) {
    if (field in schema.shape) return `it belongs in a destination of type ${type}`;
  }
  return undefined;
}

/** The entries of a section whose names are right. */
function section(title: 'accounts' | 'destinations', raw: unknown, findings: Finding[]): [string, unknown][] {
  if (raw === undefined || raw === null) return [];
  if (!isGroup(raw)) {
    findings.push(wrong([title], 'is not a group of fields', 'write a name, a colon and the fields two spaces deeper'));
    return [];
  }
  return Object.entries(raw).filter(([name]) => {
    if (new RegExp(NAME_PATTERN).test(name)) return true;
    const remedy = 'use at most 64 letters, digits and . _ @ + -, a letter or digit first';
    findings.push(wrong([title, name], 'is no name for an entry', remedy));
    return false;
  });
}

function validateDestination(
  name: string,
  raw: unknown,
  findings: Finding[],
): Validated['destinations'][number] | undefined {
  const at = ['destinations', name];
  if (!isGroup(raw)) {
    findings.push(
      wrong(
        at,
        raw === null ? 'is empty' : 'is not a group of fields',
        'write `type: smtp` or `type: webhook` below it',
      ),
    );
    return undefined;
  }
  const types = [...KINDS.keys()];
  const type = raw['type'];
  const kind = typeof type === 'string' ? KINDS.get(type) : undefined;
  if (kind === undefined || typeof type !== 'string') {
    const missing = type === undefined || type === null;
    const near = typeof type === 'string' ? nearest(type, types) : undefined;
    const remedy = near === undefined ? `write ${listed(types)}` : `did you mean ${near}?`;
    findings.push(wrong([...at, 'type'], missing ? 'is missing' : 'is no kind of destination', remedy));
    return undefined;
  }
  const { values, findings: own } = inspectFields(kind.schema, raw);
  const found = [...own, ...withoutMissing(kind.findings(values, wrongFields(own)), own)];
  findings.push(...under(at, found));
  return hasErrors(found) ? undefined : { name, type, options: values };
}

function wrongFields(findings: readonly Finding[]): ReadonlySet<string> {
  return new Set(findings.map(({ path }) => String(path[0])));
}

/** What is said of a field that is wrong in itself is said once. */
function withoutMissing(findings: readonly Finding[], said: readonly Finding[]): Finding[] {
  return findings.filter(({ path }) => !wrongFields(said).has(String(path[0])));
}

function validateAccount(
  name: string,
  raw: unknown,
  defaults: Group,
  destinations: readonly string[],
  findings: Finding[],
): Valid<AccountOptions> | undefined {
  const at = ['accounts', name];
  if (!isGroup(raw)) {
    findings.push(
      wrong(
        at,
        raw === null ? 'is empty' : 'is not a group of fields',
        'write `host:`, `user:`, `password:` and `deliverTo:` below it',
      ),
    );
    return undefined;
  }
  const { values, findings: own, told } = inspectFields(accountSchema, withDefaults(raw, defaults));
  // what is wrong in `defaults` is said there, once
  const mine = own.filter(
    ({ path }) => Object.hasOwn(raw, String(path[0])) || !Object.hasOwn(defaults, String(path[0])),
  );
  const between = withoutMissing(
    [
      ...securityFindings(values, true, POP3_PORTS),
      ...credentialFindings(values, told),
      ...scheduleFindings(values, raw),
    ],
    mine,
  ).filter(
    ({ severity, path }) =>
      severity === 'error' || Object.hasOwn(raw, String(path[0])) || !Object.hasOwn(defaults, String(path[0])),
  );
  const found = [
    ...under(at, [...mine, ...between]),
    ...unknownDestinations([...at, 'deliverTo'], raw['deliverTo'], destinations),
  ];
  findings.push(...found);
  return hasErrors(found) || own.length > mine.length ? undefined : { name, options: values as AccountOptions };
}

/** An account's own `every` takes the place of a default `schedule`, and the other way round. */
function withDefaults(raw: Group, defaults: Group): Group {
  const { every, schedule, timezone, ...others } = defaults;
  const timing = { ...(every === undefined ? {} : { every }), ...(schedule === undefined ? {} : { schedule }) };
  const zone = timezone === undefined ? {} : { timezone };
  if ('every' in raw) return { ...others, ...raw };
  return 'schedule' in raw ? { ...others, ...zone, ...raw } : { ...others, ...timing, ...zone, ...raw };
}

function scheduleFindings(values: Partial<AccountOptions>, raw: Group): Finding[] {
  if ('every' in raw && 'schedule' in raw) {
    return [wrong(['every'], 'stands beside `schedule`', 'keep one of them')];
  }
  if ('timezone' in raw && !('schedule' in raw) && values.schedule === undefined) {
    return [wrong(['timezone'], 'has no `schedule` to go with', 'write a schedule, or leave it out')];
  }
  return [];
}

function unknownDestinations(path: Path, raw: unknown, destinations: readonly string[]): Finding[] {
  if (!Array.isArray(raw)) return [];
  return raw.flatMap((entry: unknown, index) => {
    if (typeof entry === 'string' && raw.indexOf(entry) !== index) {
      return [doubtful([...path, index], 'is in the list twice', 'remove one')];
    }
    return namedIn(entry).flatMap(({ at, name }) => {
      if (destinations.includes(name)) return [];
      const near = nearest(name, destinations);
      const known =
        destinations.length === 0 ? 'add it under `destinations`' : `there is ${listed(destinations.slice(0, 10))}`;
      return [
        wrong([...path, index, ...at], 'is no destination', near === undefined ? known : `did you mean ${near}?`),
      ];
    });
  });
}

function hasErrors(findings: readonly Finding[]): boolean {
  return findings.some(({ severity }) => severity === 'error');
}
