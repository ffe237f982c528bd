/** The log: JSON lines on standard output, or readable ones on a terminal. Every line passes the redactor. */

import { pino } from 'pino';
import type { Logger } from 'pino';
import pretty from 'pino-pretty';
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
    ? pretty({ destination: fd, sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss' })
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
