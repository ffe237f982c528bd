/** What can go wrong at a destination, step by step and class by class: how each fault is made, and how it is lifted. */

import { execFileSync, spawnSync } from 'node:child_process';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../src/app.ts';
import type { HttpSink } from './http-sink.ts';
import type { LineRelay } from './line-relay.ts';
import type { LogLine } from './mailferry.ts';
import { idOf } from './outside.ts';
import type { SmtpSink, SmtpStage } from './smtp-sink.ts';

export type Target = 'smtp' | 'lmtp' | 'webhook' | 'maildir';
/** What undoes a fault. */
type Lift = () => void | Promise<void>;

export interface DestinationFault {
  readonly target: Target;
  readonly step: string;
  readonly fault: string;
  /** Quarantined until a person retries; waiting for a person; or neither. */
  readonly needs?: 'retry' | 'person';
  readonly apply: (scene: Scene) => Lift | Promise<Lift>;
}

export interface Scene {
  readonly smtp: SmtpSink;
  readonly relay: LineRelay;
  readonly hook: HttpSink;
  readonly maildir: string;
  readonly engine: Engine;
  readonly lines: LogLine[];
  /** Message-IDs that the mail server took without saying so. */
  readonly silently: string[];
}

function reply(stage: SmtpStage, code: number, text: string): DestinationFault['apply'] {
  return ({ smtp }) => smtp.when({ stage, action: { reply: [code, text] } });
}

/** A reply of the relay's to commands that match. */
function answer(on: RegExp, words: string): DestinationFault['apply'] {
  return ({ relay }) => {
    relay.rule = { on, reply: words };
    return () => {
      relay.rule = undefined;
    };
  };
}

function answers(status: number, headers: Record<string, string> = {}): DestinationFault['apply'] {
  return ({ hook }) => hook.when({ action: { status, headers, body: 'as told' } });
}

function mailCases(target: 'smtp' | 'lmtp'): DestinationFault[] {
  const at = (
    step: string,
    fault: string,
    apply: DestinationFault['apply'],
    needs?: 'retry' | 'person',
  ): DestinationFault => ({
    target,
    step,
    fault,
    apply,
    ...(needs ? { needs } : {}),
  });
  return [
    at('connect', 'refused', async ({ relay }) => {
      await relay.refuse();
      return () => relay.accept();
    }),
    at('greeting', '421', reply('connect', 421, '4.3.2 not now')),
    at('greeting', '554', reply('connect', 554, '5.3.2 no service')),
    at('EHLO', '421', answer(/^(EHLO|HELO|LHLO)/, '421 4.3.2 not now')),
    at('EHLO', '502', answer(/^(EHLO|HELO|LHLO)/, '502 5.5.1 no such command')),
    ...(target === 'lmtp'
      ? []
      : [
          at('AUTH', '454', reply('auth', 454, '4.7.0 try later')),
          at('AUTH', '535', reply('auth', 535, '5.7.8 wrong password'), 'person'),
        ]),
    at('MAIL', '451', reply('mail', 451, '4.3.0 try later')),
    at('MAIL', '530', reply('mail', 530, '5.7.0 log in first'), 'person'),
    at('MAIL', '550', reply('mail', 550, '5.1.8 not from you'), 'retry'),
    at('RCPT', '450', reply('rcpt', 450, '4.2.0 greylisted')),
    at('RCPT', '550', reply('rcpt', 550, '5.1.1 no such user'), 'retry'),
    at('DATA', '451', answer(/^DATA/, '451 4.3.0 try later')),
    at('DATA', '554', answer(/^DATA/, '554 5.3.4 no'), 'retry'),
    at('body', 'cut', ({ smtp }) => smtp.when({ stage: 'body', action: 'drop' })),
    at('end of data', '451', reply('end', 451, '4.3.0 try later')),
    at('end of data', '554', reply('end', 554, '5.7.1 spam'), 'retry'),
    at('end of data', 'cut, not taken', ({ smtp }) => smtp.when({ stage: 'end', times: 2, action: 'drop' })),
    at('end of data', 'cut, taken', ({ smtp, silently }) =>
      smtp.when({
        stage: 'end',
        times: 2,
        action: ({ head }) => {
          silently.push(idOf(head));
          return Promise.resolve('drop' as const);
        },
      }),
    ),
  ];
}

export const DESTINATION_FAULTS: readonly DestinationFault[] = [
  ...mailCases('smtp'),
  ...mailCases('lmtp'),
  {
    target: 'webhook',
    step: 'connect',
    fault: 'refused',
    async apply({ hook }) {
      const { port } = hook;
      await hook.close();
      return () => hook.reopen(port);
    },
  },
  {
    target: 'webhook',
    step: 'request',
    fault: 'cut before reading',
    apply: ({ hook }) => hook.when({ action: 'dropAtHeader' }),
  },
  {
    target: 'webhook',
    step: 'answer',
    fault: 'cut after reading',
    apply: ({ hook }) => hook.when({ times: 2, action: 'dropAfterBody' }),
  },
  {
    target: 'webhook',
    step: 'answer',
    fault: 'none within the time',
    apply: ({ hook }) => hook.when({ times: 2, action: 'stallAfterBody' }),
  },
  { target: 'webhook', step: 'answer', fault: '408', apply: answers(408) },
  { target: 'webhook', step: 'answer', fault: '429, Retry-After 1', apply: answers(429, { 'retry-after': '1' }) },
  { target: 'webhook', step: 'answer', fault: '500', apply: answers(500) },
  { target: 'webhook', step: 'answer', fault: '503', apply: answers(503) },
  {
    target: 'webhook',
    step: 'answer',
    fault: '302',
    needs: 'person',
    apply: answers(302, { location: 'https://x.example/' }),
  },
  { target: 'webhook', step: 'answer', fault: '400', needs: 'retry', apply: answers(400) },
  { target: 'webhook', step: 'answer', fault: '401', needs: 'person', apply: answers(401) },
  { target: 'webhook', step: 'answer', fault: '403', needs: 'person', apply: answers(403) },
  { target: 'webhook', step: 'answer', fault: '404', needs: 'person', apply: answers(404) },
  { target: 'webhook', step: 'answer', fault: '410', needs: 'person', apply: answers(410) },
  {
    target: 'maildir',
    step: 'open',
    fault: 'not a folder',
    async apply({ maildir }) {
      await rename(maildir, `${maildir}.away`);
      await writeFile(maildir, '');
      return async () => {
        await rm(maildir);
        await rename(`${maildir}.away`, maildir);
      };
    },
  },
  ...(mayMount()
    ? [
        {
          target: 'maildir' as const,
          step: 'open',
          fault: 'read-only',
          apply: ({ maildir }: Scene) => {
            execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', maildir]);
            execFileSync('mount', ['-o', 'remount,ro', maildir]);
            return () => void execFileSync('mount', ['-o', 'remount,rw', maildir]);
          },
        },
        {
          target: 'maildir' as const,
          step: 'write',
          fault: 'disk full',
          apply: async ({ maildir }: Scene) => {
            execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', maildir]);
            const ballast = join(maildir, 'ballast');
            spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4k'], { stdio: 'ignore' });
            await Promise.resolve();
            return () => rm(ballast);
          },
        },
      ]
    : []),
];

function mayMount(): boolean {
  return process.platform === 'linux' && process.getuid?.() === 0;
}
