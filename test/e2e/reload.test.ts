// A config that changes while the worker runs: applied as a whole or not at all, and no mail lost or repeated by it.

import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { stringify } from 'yaml';
import type { Finished, RunningWorker } from '../support/mailferry.ts';
import { hookIds, idOf, mails, pollNow } from '../support/outside.ts';
import type { TestMail } from '../support/outside.ts';
import { startPop3Server } from '../support/pop3-server.ts';
import type { Pop3Server } from '../support/pop3-server.ts';
import { redisAvailable } from '../support/redis.ts';
import { startHttpSink } from '../support/http-sink.ts';
import { until } from '../support/wait.ts';
import { World } from '../support/world.ts';

type Options = Readonly<Record<string, unknown>>;
type Section = Readonly<Record<string, Options>>;

const USERS = ['a', 'b', 'c'];

interface Scene {
  readonly world: World;
  readonly pop3: Pop3Server;
  readonly worker: RunningWorker;
  /** A config with these accounts. */
  readonly config: (accounts: Section, more?: Options) => Options;
  readonly account: (user: string, more?: Options) => Options;
  /** Writes a config and says so by SIGHUP. */
  readonly reload: (config: Options) => Promise<void>;
}

/** A worker that polls the account `a` once an hour, its first poll behind it. */
async function scene(t: TestContext): Promise<Scene> {
  const users = Object.fromEntries(USERS.map((user) => [user, 'secret']));
  const pop3 = await startPop3Server({ users }, t);
  const world = await World.open({ owner: t, pop3: pop3 as never });
  const [isp] = Object.values(world.config()['accounts'] as Section);
  const account = (user: string, more: Options = {}): Options => ({
    ...isp,
    user,
    password: 'secret',
    every: '1h',
    deliverTo: ['hook'],
    ...more,
  });
  const config = (accounts: Section, more: Options = {}): Options => ({ ...world.config(), accounts, ...more });
  await world.mailferry.configure(config({ a: account('a') }));
  const worker = world.start();
  await worker.says('mailferry started');
  await until(() => worker.logged('polled').length > 0, { what: 'the first poll' });
  return {
    world,
    pop3,
    worker,
    config,
    account,
    async reload(next) {
      await world.mailferry.configure(next);
      worker.child.kill('SIGHUP');
    },
  };
}

/** Waits until a log line with that message came that many times. */
async function times(worker: RunningWorker, msg: string, count: number): Promise<void> {
  await until(() => worker.logged(msg).length >= count, {
    timeout: 20_000,
    what: `"${msg}" ${String(count)} times; ${worker.noise}`,
  });
}

/** `status` of another file on the same Redis and folder. */
async function statusWith(world: World, config: Options): Promise<Finished> {
  const { mailferry } = world;
  const path = `${mailferry.dir}/other.yaml`;
  await writeFile(path, stringify({ dataDir: mailferry.dataDir, ...config }), { mode: 0o600 });
  return await mailferry.run('--config', path, 'status');
}

async function schedulers(world: World): Promise<Record<string, string>> {
  const keys = await world.redis.zrange('{mailferry}:polls:repeat', '0', '-1');
  const every = await Promise.all(
    keys.map(async (key) => await world.redis.hget(`{mailferry}:polls:repeat:${key}`, 'every')),
  );
  return Object.fromEntries(keys.map((key, index) => [key.replace('account:', ''), String(every[index])]));
}

function put(pop3: Pop3Server, user: string, name: string, count: number, octets = 500): readonly TestMail[] {
  const sent = mails(name, count, octets);
  pop3.drop(user).add(...sent.map((mail) => mail.octets));
  return sent;
}

function sorted(ids: readonly string[]): string[] {
  return ids.toSorted((a, b) => a.localeCompare(b));
}

const ids = (sent: readonly TestMail[]): string[] => sorted(sent.map(({ id }) => id));

describe('reload', { skip: redisAvailable() ?? false, concurrency: 3 }, () => {
  test('an account is added, changes its schedule, and goes', { timeout: 60_000 }, async (t) => {
    const { world, pop3, worker, config, account, reload } = await scene(t);
    const first = put(pop3, 'b', 'first', 3);
    await reload(config({ a: account('a'), b: account('b') }));
    await until(() => pop3.drop('b').messages.length === 0, { what: 'the new account is polled at once' });
    assert.deepEqual(sorted(hookIds(world.hook)), ids(first));
    assert.deepEqual(await schedulers(world), { a: '3600000', b: '3600000' });

    await reload(config({ a: account('a'), b: account('b', { every: '30m' }) }));
    await until(async () => (await schedulers(world))['b'] === '1800000', { what: 'the other schedule' });
    // The line comes after the change that it tells of.
    await until(() => worker.logged('config applied').length === 2, { what: 'the line' });
    assert.deepEqual(worker.logged('config applied').at(-1)?.['accounts'], { added: [], changed: ['b'], removed: [] });

    await reload(config({ a: account('a') }));
    await until(async () => !('b' in (await schedulers(world))), { what: 'no schedule for b' });
    const sessions = pop3.sessions.length;
    put(pop3, 'b', 'second', 1);
    await world.pollNow('b');
    await world.pollNow('a');
    await until(() => pop3.sessions.length > sessions, { what: 'a poll of a' });
    assert.equal(pop3.drop('b').messages.length, 1, 'a job that is left of it does nothing');
    const status = await world.mailferry.json<{ account: string; state: string; delivered: number }[]>('status');
    assert.deepEqual(
      status.map((one) => [one.account, one.state, one.delivered]),
      [
        ['a', 'ok', 0],
        ['b', 'not configured', 3],
      ],
    );
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('a config that is wrong changes nothing, and is told', { timeout: 60_000 }, async (t) => {
    const { world, pop3, worker, config, account, reload } = await scene(t);
    const before = await schedulers(world);
    await writeFile(world.mailferry.configPath, 'accounts: [unfinished\n');
    worker.child.kill('SIGHUP');
    await times(worker, 'config not applied: the one from before stays in use', 1);
    // Of two changes one is right: none is made.
    await reload(config({ a: account('a', { colour: 'red' }), b: account('b') }));
    await until(() => worker.lines.some(({ problem }) => String(problem).includes('colour')), { what: 'told' });
    // A file that an editor has emptied is none that says: no accounts.
    await writeFile(world.mailferry.configPath, '');
    worker.child.kill('SIGHUP');
    await until(() => worker.lines.some(({ problem }) => String(problem).includes('holds no config')), {
      what: 'told',
    });
    assert.deepEqual(await schedulers(world), before);
    const sent = put(pop3, 'a', 'meanwhile', 2);
    await world.pollNow('a');
    await until(() => pop3.drop('a').messages.length === 0, { what: 'the last good config goes on' });
    await reload(config({ a: account('a', { colour: 'red' }) }));
    await until(() => worker.lines.filter(({ problem }) => String(problem).includes('colour')).length > 1);
    // `status` reads the same file: it runs without the account that is wrong, so here with another file.
    await until(async () =>
      (await statusWith(world, config({ a: account('a') }))).stderr.includes('refused the config'),
    );
    await reload(config({ a: account('a'), b: account('b') }));
    await worker.says('config applied');
    await until(async () => 'b' in (await schedulers(world)), { what: 'what was put right applies' });
    const { stdout, stderr } = await world.mailferry.run('status');
    assert.match(stdout, /^b /m);
    assert.doesNotMatch(stderr, /refused/);
    assert.deepEqual(sorted(hookIds(world.hook)), ids(sent));
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('without SIGHUP: a file in place of another, and two changes in a row', { timeout: 60_000 }, async (t) => {
    const { world, pop3, worker, config, account } = await scene(t);
    put(pop3, 'b', 'b', 1);
    put(pop3, 'c', 'c', 1);
    const path = world.mailferry.configPath;
    const replaceBy = async (next: Options): Promise<void> => {
      const text = stringify({ dataDir: world.mailferry.dataDir, log: { level: 'debug' }, ...next });
      await writeFile(`${path}.new`, text, { mode: 0o600 });
      await rename(`${path}.new`, path);
    };
    await replaceBy(config({ a: account('a'), b: account('b') }));
    await replaceBy(config({ a: account('a'), c: account('c') }));
    await until(() => pop3.drop('c').messages.length === 0, { timeout: 20_000, what: 'the second counts' });
    assert.equal(pop3.drop('b').messages.length, 1, 'the first was never seen');
    await replaceBy(config({ a: account('a'), b: account('b') }));
    await until(() => pop3.drop('b').messages.length === 0, { timeout: 20_000, what: 'and another one' });
    assert.deepEqual(sorted(Object.keys(await schedulers(world))), ['a', 'b']);
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('SIGHUP while a poll runs: it ends under the old config', { timeout: 60_000 }, async (t) => {
    const { world, pop3, worker, config, account, reload } = await scene(t);
    const other = await startHttpSink({ keep: 10_000_000 });
    t.after(() => other.close());
    const sent = put(pop3, 'a', 'during', 200);
    let freed = (): void => undefined;
    const gate = new Promise<undefined>((resolve) => (freed = () => resolve(undefined)));
    world.hook.when({ times: 3, action: async () => await gate });
    await world.pollNow('a');
    await until(() => world.hook.open > 0 || world.hook.requests.length > 0, { what: 'deliveries under way' });
    const hook = { type: 'webhook', url: other.url, allowPrivate: true };
    await reload(config({ a: account('a', { user: 'b' }) }, { destinations: { hook } }));
    await worker.says('config applied');
    assert.deepEqual(worker.logged('config applied').at(-1)?.['destinations'], {
      added: [],
      changed: ['hook'],
      removed: ['inbox'],
    });
    freed();
    await until(() => pop3.drop('a').messages.length === 0, { timeout: 20_000, what: 'the poll ends its work' });
    assert.deepEqual(sorted(hookIds(world.hook)), ids(sent), 'each once, to the destination of the old config');
    assert.equal(other.requests.length, 0);
    const next = put(pop3, 'b', 'after', 3);
    await pollNow(world.redisServer?.socket ?? '', 'a');
    await until(() => pop3.drop('b').messages.length === 0, { what: 'the next poll runs under the new config' });
    assert.deepEqual(sorted(hookIds(other)), ids(next));
    assert.equal(world.hook.requests.length, 200);
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('a destination that changed is opened anew; another keeps its connection', { timeout: 60_000 }, async (t) => {
    const { world, pop3, worker, config, account, reload } = await scene(t);
    const both = account('a', { deliverTo: ['inbox', 'hook'] });
    await reload(config({ a: both }));
    await times(worker, 'config applied', 1);
    const deliver = async (name: string): Promise<void> => {
      put(pop3, 'a', name, 1);
      const polls = worker.logged('polled').length;
      await world.pollNow('a');
      await until(() => pop3.drop('a').messages.length === 0, { what: name, timeout: 20_000 });
      // A poll that is asked for while this one still ends would be none.
      await until(() => worker.logged('polled').length > polls, { what: `the end of ${name}` });
    };
    await deliver('one');
    await deliver('two');
    assert.equal(world.inbox.connections, 1, 'the connection is kept');
    const { destinations } = world.config() as { destinations: { inbox: Options; hook: Options } };
    const { inbox, hook } = destinations;
    await reload(config({ a: both }, { destinations: { inbox, hook: { ...hook, headers: { 'X-Changed': 'yes' } } } }));
    await times(worker, 'config applied', 2);
    await deliver('three');
    assert.equal(world.inbox.connections, 1, 'kept over a reload that changed the other one');
    assert.equal(world.hook.requests.at(-1)?.headers['x-changed'], 'yes');
    await reload(config({ a: both }, { destinations: { inbox: { ...inbox, to: ['you@example.com'] }, hook } }));
    await times(worker, 'config applied', 3);
    await until(() => world.inbox.open === 0, { what: 'the old connection is closed' });
    await deliver('four');
    assert.equal(world.inbox.connections, 2);
    assert.deepEqual(world.inbox.messages.at(-1)?.to, ['you@example.com']);
    assert.equal(idOf(world.inbox.messages.at(-1)?.head ?? ''), '<four.0@sender.example>');
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('what needs a restart is told in one line, and the rest applies', { timeout: 60_000 }, async (t) => {
    const { world, worker, config, account, reload } = await scene(t);
    await reload(
      config({ a: account('a'), b: account('b') }, { http: { listen: '127.0.0.1:0' }, redis: { socket: '/nowhere' } }),
    );
    await worker.says('config applied');
    assert.deepEqual(
      worker
        .logged('config needs a restart: these settings stay as they are until then')
        .map(({ settings }) => settings),
      [['redis', 'http']],
    );
    await until(async () => 'b' in (await schedulers(world)), { what: 'the account' });
    assert.equal(worker.logged('http listening').length, 0);
    assert.equal(await worker.stop(), 0, worker.noise);
  });

  test('an account in trouble is tried at once when its config is put right', { timeout: 60_000 }, async (t) => {
    const { pop3, worker, config, account, reload } = await scene(t);
    const sent = put(pop3, 'b', 'waiting', 1);
    await reload(config({ a: account('a'), b: account('b', { password: 'wrong' }) }));
    await worker.says('poll failed');
    await reload(config({ a: account('a'), b: account('b') }));
    await until(() => pop3.drop('b').messages.length === 0, { what: `delivered ${String(sent.length)}` });
    await worker.says('works again');
    assert.equal(await worker.stop(), 0, worker.noise);
  });
});
