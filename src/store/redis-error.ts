/** What the errors of Redis and of the connection to it mean to an operator. Pure. */

import { Failure, reasonOf } from '../failure.ts';
import { printable } from '../untrusted.ts';

/** Redis is out of reach, in words an operator can act on. */
export function unreachable(error: unknown): Failure {
  return new Failure(`Redis is out of reach: ${reasonOf(error)}`, {
    scope: 'process',
    code: 'redis.connect',
    remedy: 'Start it, or correct "redis" in the config. Mail waits on its servers meanwhile.',
    cause: error,
  });
}

/** What Redis refuses with, what that means, and what to do. By the first word of its answer. */
const REFUSALS: Readonly<Record<string, readonly [meaning: string, remedy: string]>> = {
  READONLY: ['Redis is a replica and takes no writes', 'Point "redis" at the primary.'],
  OOM: ['Redis has no memory left', 'Raise maxmemory, or make room there.'],
  MISCONF: ['Redis cannot save to its disk', 'Make room on its disk, and see its log.'],
  NOREPLICAS: ['Redis misses replicas and takes no writes', 'Bring its replicas back, or lower min-replicas-to-write.'],
  LOADING: ['Redis is loading its data', 'Nothing: it will be ready soon.'],
  NOAUTH: ['Redis wants a password', 'Put it into the URL: redis://:PASSWORD@HOST:PORT.'],
  WRONGPASS: ['Redis refuses the password', 'Correct the password in "redis.url".'],
  NOPERM: [
    'Redis does not let this user do what is needed',
    'Allow it all commands on the keys mailferry:* and {mailferry}:*.',
  ],
  CLUSTERDOWN: ['The Redis cluster is down', 'Bring its nodes back.'],
};

/** What a failed command means to an operator; undefined if the error is not Redis's. */
export function redisFailure(error: unknown): Failure | undefined {
  if (error instanceof Failure || !(error instanceof Error)) return undefined;
  const [meaning, remedy] = REFUSALS[error.message.split(' ', 1)[0] ?? ''] ?? [];
  if (meaning !== undefined && remedy !== undefined) {
    const message = `${meaning}: ${printable(error.message, 200)}`;
    return new Failure(message, { scope: 'process', code: 'redis.refused', remedy, cause: error });
  }
  const isConnection =
    error.name === 'MaxRetriesPerRequestError' ||
    /^(Command timed out|Connection is closed|Stream isn't writeable)/.test(error.message) ||
    ('code' in error &&
      (['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'].includes(String(error.code)) ||
        // A socket that is not there; a file may be missing as well.
        (error.code === 'ENOENT' && 'syscall' in error && error.syscall === 'connect')));
  return isConnection ? unreachable(error) : undefined;
}
