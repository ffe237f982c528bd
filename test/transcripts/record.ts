/** Records transcripts from the real test servers: `node test/transcripts/record.ts`, then `UPDATE_TRANSCRIPTS=1`. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { escaped } from '../support/pop3-transcript.ts';
import { POP3_SERVERS, startServer } from '../support/servers.ts';
import type { Pop3ServerName } from '../support/servers.ts';

const LISTS = /^(CAPA|UIDL|LIST|RETR \d+|TOP \d+ \d+)$/;

const HEADER =
  'Received: from sender.example by isp.example id 1; Mon, 02 Nov 2026 10:00:00 +0000\r\nFrom: s@sender.example\r\n' +
  'Subject: dots and \xe4\xf6\xfc\r\nMessage-ID: <1@sender.example>\r\n\r\n';
const MAIL = [
  `${HEADER}.\r\n..\r\n.dot\r\n\x80\xff \xc3\xa9\r\n\r\n`,
  `${HEADER.replace('id 1', 'id 2')}no last line end`,
  HEADER.replace('id 1', 'id 3'),
];

const BEFORE = ['CAPA', 'UTF8', 'USER u1', 'PASS p1', 'CAPA'];
const POLL = ['STAT', 'UIDL', 'LIST', 'UIDL 2', 'UIDL 9', 'TOP 1 0', 'RETR 1', 'RETR 2', 'RETR 9', 'RETR 3', 'DELE 1', 'RETR 1'];
const SCRIPTS: Readonly<Record<string, readonly string[]>> = {
  poll: [...BEFORE, ...POLL, 'RSET', 'DELE 2', 'NOOP', 'QUIT'],
  refused: ['CAPA', 'UTF8', 'USER u1', 'PASS wrong'],
  empty: ['CAPA', 'UTF8', 'USER u2', 'PASS p2', 'CAPA', 'STAT', 'UIDL', 'LIST', 'RETR 1', 'QUIT'],
};

/** Speaks the lines and writes down what comes, a reply at a time. */
async function record(port: number, lines: readonly string[]): Promise<string[]> {
  const socket = connect(port, '127.0.0.1');
  const read = replies(socket);
  const transcript = (await read('')).map((line) => `S: ${line}`);
  let capabilities = '';
  let isFirst = true;
  for (const line of lines) {
    if (line === 'CAPA' && !isFirst && capabilities === '') continue;
    if (line === 'UTF8' && !capabilities.includes('UTF8')) continue;
    isFirst = false;
    socket.write(`${line}\r\n`);
    const reply = await read(line);
    if (line === 'CAPA' && reply[0]?.startsWith('+') === true) capabilities = reply.join(' ');
    transcript.push(`C: ${line.replace(/^PASS .*/, 'PASS p1')}`, ...reply.map((one) => `S: ${one}`));
  }
  socket.destroy();
  return transcript;
}

function replies(socket: Socket): (command: string) => Promise<string[]> {
  let text = '';
  let wake = (): void => undefined;
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
    wake();
  });
  socket.on('error', () => socket.destroy());
  socket.on('close', () => wake());
  return async (command) => {
    const isWhole = (): boolean => {
      if (!text.includes('\n')) return false;
      return !(LISTS.test(command) && text.startsWith('+')) || /(^|\r\n)\.\r\n$/.test(text.slice(text.indexOf('\n') + 1));
    };
    while (!isWhole() && !socket.destroyed) await new Promise<void>((resolve) => (wake = resolve));
    const lines = text.split('\r\n').map(escaped);
    if (lines.at(-1) === '') lines.pop();
    text = '';
    return lines;
  };
}

async function recordServer(name: Pop3ServerName): Promise<void> {
  await using server = await startServer(name, { users: 2 });
  const mail = MAIL.map((text) => Buffer.from(text, 'latin1'));
  await server.deliver('u1', mail);
  const folder = join(import.meta.dirname, name);
  mkdirSync(folder, { recursive: true });
  for (const [title, lines] of Object.entries(SCRIPTS)) {
    const head = `# Recorded from ${name} of Debian 12${title === 'refused' ? ' with a wrong password' : ''}.`;
    const user = title === 'empty' ? ['% user u2'] : [];
    writeFileSync(join(folder, `${title}.txt`), [head, ...user, ...(await record(server.port, lines)), ''].join('\n'));
  }
}

for (const name of POP3_SERVERS) await recordServer(name);
