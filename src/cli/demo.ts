/** `demo`: the real worker between a sandbox maildrop and its receivers, told as it happens. */

import { styleText } from 'node:util';
import { runDemo } from '../demo/demo.ts';
import type { DemoResult } from '../demo/demo.ts';
import type { Scene } from '../demo/sandbox.ts';
import type { Moment } from '../demo/narrator.ts';
import { createLog } from '../ops/log.ts';
import { EXIT } from './command.ts';
import type { Command } from './command.ts';
import { octets, table } from './table.ts';

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';
type Paint = (style: Style, text: string) => string;

export const demo: Command = {
  name: 'demo',
  usage: '',
  summary: 'a sandbox maildrop, SMTP and webhook receivers in one process: the real worker on them, in under a minute',
  options: {},
  async run(_words, _options, context) {
    const began = performance.now();
    const colours = context.isTerminal && !context.env['NO_COLOR'];
    const paint: Paint = (style, text) => (colours ? styleText(style, text, { validateStream: false }) : text);
    const titles = new Map<string, string>();
    let width = 0;
    const result = await runDemo({
      set({ mail, ...scene }) {
        for (const { uniqueId, title } of mail) titles.set(uniqueId, title);
        width = Math.max(...mail.map(({ title }) => title.length));
        if (!context.json) context.print(`${opening({ mail, ...scene }, paint)}\n`);
      },
      tell(moment) {
        const seconds = (performance.now() - began) / 1000;
        const title = 'uniqueId' in moment ? (titles.get(moment.uniqueId) ?? moment.uniqueId) : '';
        if (context.json) context.print(JSON.stringify({ seconds: round(seconds), title, ...moment }));
        else context.print(line(seconds, title.padEnd(width), moment, paint));
      },
      log: createLog({ level: 'warn', pretty: context.isTerminal, fd: 2 }),
      stop: context.stop,
    });
    const seconds = (performance.now() - began) / 1000;
    if (context.json) context.print(JSON.stringify({ seconds: round(seconds), event: 'end', ...result }));
    else context.print(`\n${closing(result, seconds, paint)}`);
    return result.ok ? EXIT.done : EXIT.undelivered;
  },
};

function opening({ mail, folder, pop3, smtp, webhook }: Scene, paint: Paint): string {
  const total = mail.reduce((sum, message) => sum + message.octets.length, 0);
  const rows = [
    ['maildrop old-isp', `POP3 ${pop3}`, `${mail.length} messages, ${octets(total)}`],
    ['destination inbox', `SMTP ${smtp}`, 'puts one message off at first, and refuses one until somebody steps in'],
    ['destination helpdesk', webhook, 'takes what carries the right signature'],
    ['worker', 'BullMQ on an embedded Redis', folder],
  ];
  return (
    `${paint('bold', 'A maildrop is emptied into two places. A message is deleted once both have confirmed it, never before.')}\n\n` +
    table(rows)
  );
}

function line(seconds: number, title: string, moment: Moment, paint: Paint): string {
  const { verb, style, words } = telling(moment);
  const time = paint('dim', `${seconds.toFixed(1).padStart(5)} s`);
  if (title.trim() === '') return `${time}  ${paint(style, verb)}${words}`;
  return `${time}  ${title}  ${paint(style, verb.padEnd(11))}  ${words}`.trimEnd();
}

function telling(moment: Moment): { readonly verb: string; readonly style: Style; readonly words: string } {
  switch (moment.event) {
    case 'retrieved':
      return moment.again
        ? { verb: 'retrieved', style: 'dim', words: 'again, for the destination that has not confirmed' }
        : { verb: 'retrieved', style: 'dim', words: octets(moment.octets) };
    case 'delivered': {
      const attempt = moment.attempt > 1 ? ` (attempt ${moment.attempt})` : '';
      return { verb: 'delivered', style: 'green', words: `${moment.destination}: ${moment.said}${attempt}` };
    }
    case 'deferred': {
      const again = Math.max(0, moment.again / 1000).toFixed(1);
      return {
        verb: 'deferred',
        style: 'yellow',
        words: `${moment.destination}: ${moment.said} (again in ${again} s; it stays on the server)`,
      };
    }
    case 'quarantined':
      return { verb: 'quarantined', style: 'red', words: `${moment.said} (it stays on the server, for a person)` };
    case 'deleted':
      return { verb: 'deleted', style: 'cyan', words: 'both have confirmed; QUIT was answered +OK' };
    case 'command':
      return { verb: `$ ${moment.words}`, style: 'bold', words: '' };
    case 'answer':
      return { verb: moment.said, style: 'dim', words: '' };
    case 'trouble':
      return { verb: 'trouble', style: 'red', words: `: ${moment.said}` };
  }
}

function closing({ rows, left, ok, stopped }: DemoResult, seconds: number, paint: Paint): string {
  const lines = rows.map((row) => [
    row.title,
    row.octets.toLocaleString('en'),
    row.sha256.slice(0, 12),
    row.inbox,
    row.helpdesk,
    row.deleted ? 'deleted' : 'still there',
  ]);
  const result = table([['MESSAGE', 'OCTETS', 'SHA-256', 'AT INBOX', 'AT HELPDESK', 'IN THE MAILDROP'], ...lines]);
  const verdict = ok
    ? paint('green', 'The maildrop is empty. Every octet arrived at both places, exactly once.')
    : stopped
      ? paint('yellow', `Stopped; ${left} messages are left in the maildrop.`)
      : paint('red', `NOT as promised: ${left} messages are left in the maildrop; see the table.`);
  const note =
    'SHA-256 is that of the maildrop\u2019s octets; "same" means that exactly these arrived, once' +
    ' (by SMTP, below the one Received: field on top).';
  return `${result}\n\n${paint('dim', note)}\n${verdict} ${paint('dim', `(${seconds.toFixed(1)} s)`)}`;
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
