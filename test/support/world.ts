/** What most whole runs need: Dovecot, a webhook and an SMTP sink, Redis, and the real program between them. */

import { Redis } from 'ioredis';
import { startHttpSink } from './http-sink.ts';
import type { HttpSink } from './http-sink.ts';
import { Mailferry } from './mailferry.ts';
import type { RunningWorker } from './mailferry.ts';
import { expireLeases, pollNow } from './outside.ts';
import type { TestMail } from './outside.ts';
import { startRedis } from './redis.ts';
import type { RunningRedis } from './redis.ts';
import { startServer } from './servers.ts';
import type { RunningServer } from './servers.ts';
import { startSmtpSink } from './smtp-sink.ts';
import type { SmtpSink } from './smtp-sink.ts';
import type { Owner } from './temp.ts';

export type Options = Readonly<Record<string, unknown>>;

export interface WorldOptions {
  readonly owner: Owner;
  /** A Dovecot that runs already, so that a file starts one only. Its user `user` is the account. */
  readonly pop3: RunningServer;
  readonly user?: string;
  /** Over the options of the account `isp`, the destinations `inbox` (SMTP) and `hook`, and the root. */
  readonly account?: Options;
  readonly inbox?: Options;
  readonly hook?: Options;
  readonly root?: Options;
  /** Default: a Redis of the test's own. */
  readonly redis?: 'embedded';
  readonly redisArgs?: readonly string[];
}

export class World {
  readonly pop3: RunningServer;
  readonly user: string;
  readonly hook: HttpSink;
  readonly inbox: SmtpSink;
  readonly redisServer: RunningRedis | undefined;
  readonly redis: Redis;
  readonly mailferry: Mailferry;
  readonly workers: RunningWorker[] = [];

  private constructor(parts: Pick<World, 'pop3' | 'user' | 'hook' | 'inbox' | 'redisServer' | 'redis' | 'mailferry'>) {
    this.pop3 = parts.pop3;
    this.user = parts.user;
    this.hook = parts.hook;
    this.inbox = parts.inbox;
    this.redisServer = parts.redisServer;
    this.redis = parts.redis;
    this.mailferry = parts.mailferry;
  }

  static async open(options: WorldOptions): Promise<World> {
    const { owner, pop3, user = 'u1' } = options;
    const hook = await startHttpSink({ keep: 10_000_000 });
    owner.after(() => hook.close());
    const inbox = await startSmtpSink();
    owner.after(() => inbox.close());
    const redisServer =
      options.redis === 'embedded' ? undefined : await startRedis({ tcp: true, args: options.redisArgs ?? [] });
    if (redisServer) owner.after(() => redisServer.stop());
    const mailferry = await Mailferry.create(owner, {});
    const socket = redisServer?.socket ?? `${mailferry.dataDir}/redis/redis.sock`;
    const redis = new Redis(socket, {
      lazyConnect: true,
      replyMapping: 'legacy',
      retryStrategy: () => 100,
    });
    redis.on('error', () => undefined); // some tests end it
    owner.after(() => Promise.resolve(redis.disconnect()));
    const world = new World({ pop3, user, hook, inbox, redisServer, redis, mailferry });
    owner.after(async () => {
      if (process.env['SHOW_LOG'] !== undefined)
        for (const line of world.log) process.stderr.write(`${JSON.stringify(line)}\n`);
      for (const worker of world.workers) await worker[Symbol.asyncDispose]();
      await mailferry.endRedis();
    });
    await mailferry.configure(world.config(options));
    return world;
  }

  /** The config, with these options over the usual ones. */
  config(options: Pick<WorldOptions, 'account' | 'inbox' | 'hook' | 'root'> = {}): Options {
    return {
      ...(this.redisServer ? { redis: { socket: this.redisServer.socket } } : {}),
      destinations: {
        inbox: {
          type: 'smtp',
          host: '127.0.0.1',
          port: this.inbox.port,
          security: 'none',
          to: ['me@example.com'],
          from: 'fwd@example.com',
          ...options.inbox,
        },
        hook: { type: 'webhook', url: this.hook.url, allowPrivate: true, ...options.hook },
      },
      accounts: {
        isp: {
          host: '127.0.0.1',
          port: this.pop3.port,
          security: 'none',
          user: this.user,
          password: this.user.replace('u', 'p'),
          every: '10s',
          deliverTo: ['inbox', 'hook'],
          ...options.account,
        },
      },
      ...options.root,
    };
  }

  async put(mail: readonly TestMail[]): Promise<void> {
    await this.pop3.deliver(
      this.user,
      mail.map(({ octets }) => octets),
    );
  }

  /** Starts `run`. It is killed with the test if it still runs. */
  start(env: NodeJS.ProcessEnv = {}): RunningWorker {
    const worker = this.mailferry.start(env);
    this.workers.push(worker);
    return worker;
  }

  async pollNow(account = 'isp'): Promise<void> {
    await pollNow(this.redisServer?.socket ?? `${this.mailferry.dataDir}/redis/redis.sock`, account);
  }

  async expireLeases(): Promise<void> {
    await expireLeases(this.redis);
  }

  /** Every log line of every worker so far. */
  get log(): RunningWorker['lines'] {
    return this.workers.flatMap(({ lines }) => lines);
  }
}

/** One Dovecot for a file, with that many users. */
export async function oneDovecot(users: number): Promise<RunningServer> {
  return await startServer('dovecot', { users });
}
