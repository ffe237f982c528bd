/** The log: JSON lines on standard output, or readable ones on a terminal. Every line passes the redactor. */

import { createRequire } from 'node:module';
import { pino } from 'pino';
import type { Logger } from 'pino';
import type Pretty from 'pino-pretty';
import { revealed } from '../redact.ts';

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  readonly pretty: boolean;
  /** A file descriptor: 1 is standard output, 2 standard error. */
  readonly fd: 1 | 2;
}

/** A logger; fields whose names are those of secrets are censored, and so is every known secret in any text. */
export function createLog({ level, pretty: readable, fd }: LogOptions): Logger {
  const stream = readable
    ? loadPretty()({ destination: fd, sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss' })
    : pino.destination({ dest: fd, sync: true });
  return pino(
    {
      level,
      base: {},
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ['password', 'secret', 'token', 'authorization', '*.password', '*.secret', '*.token', '*.authorization'],
        censor: '[secret]',
      },
      hooks: { streamWrite: (line) => revealed.redact(line) },
    },
    stream,
  );
}

/** Only where somebody reads along: it takes a while to load. */
function loadPretty(): typeof Pretty {
  return createRequire(import.meta.url)('pino-pretty') as typeof Pretty;
}
