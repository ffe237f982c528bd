/** `demo`: the real worker between a sandbox maildrop and its receivers, told as it happens. */

import { runDemo } from '../demo/demo.ts';
import type { DemoEvent, DemoResult } from '../demo/demo.ts';
import { EXIT } from './command.ts';
import type { Command } from './command.ts';
import { octets, table } from './table.ts';

export const demo: Command = {
  name: 'demo',
  usage: '',
  summary: 'a sandbox maildrop, SMTP and webhook receivers in one process, the real worker on them',
  options: {},
  async run(_words, _options, context) {
    const began = performance.now();
    if (!context.json) {
      context.print(
        'Five messages wait in a sandbox POP3 maildrop. The worker brings each to an SMTP server and to a webhook,',
      );
      context.print('and deletes it only after both have confirmed. The SMTP server puts one of them off at first.\n');
    }
    const result = await runDemo((event) => {
      const at = ((performance.now() - began) / 1000).toFixed(1).padStart(5);
      context.print(context.json ? JSON.stringify(event) : `${at} s  ${tell(event)}`);
    }, context.stop);
    context.print(context.json ? JSON.stringify(result) : `\n${conclude(result)}`);
    return result.ok ? EXIT.done : EXIT.undelivered;
  },
};

function tell({ title, event, destination, said }: DemoEvent): string {
  if (title === '') return event;
  return `${title.padEnd(22)} ${event}${destination === '' ? '' : ` at ${destination}`}${said === '' ? '' : `: ${said}`}`;
}

function conclude({ rows, left, ok }: DemoResult): string {
  const lines = rows.map((row) => [
    row.title,
    octets(row.octets),
    row.sha256.slice(0, 16),
    row.smtp === 1 ? 'same octets, once' : `${row.smtp} times`,
    row.webhook === 1 ? 'same octets, once' : `${row.webhook} times`,
  ]);
  const verdict = ok
    ? 'The maildrop is empty, and every octet arrived everywhere, once.'
    : `NOT as promised: ${left} messages are left in the maildrop; see the table.`;
  return `${table([['MESSAGE', 'SIZE', 'SHA-256', 'SMTP', 'WEBHOOK'], ...lines])}\n\n${verdict}`;
}
