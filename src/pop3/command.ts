/** Commands on their way to a server (RFC 1939 §3, RFC 2449 §4): one line each, whatever the arguments hold. Pure. */

import { Pop3Error } from './error.ts';

/** RFC 2449 §4: a command with its CRLF, in octets. Only the exchanges of AUTH may be longer (RFC 5034 §4). */
const LONGEST_COMMAND = 255;

/** Where the octets of a message go. A promise makes the server wait; a failure makes the rest be passed over. */
export interface MessageSink {
  /** One piece, un-stuffed. It stays as it is; it may be a slice of a larger buffer. */
  write(piece: Buffer): void | Promise<void>;
}

/** What follows +OK. */
export type Body =
  | { readonly kind: 'none' }
  /** A list. `lines` and `octets` are the most that is taken. */
  | { readonly kind: 'lines'; readonly take: (line: Buffer) => void; readonly lines: number; readonly octets: number }
  | { readonly kind: 'message'; readonly sink: MessageSink };

export interface Command {
  /** Without CRLF. */
  readonly line: string;
  /** For errors and transcripts: the line without its secrets. */
  readonly shown: string;
  readonly body: Body;
  /** Part of AUTH: it may be long, and be answered by a challenge. */
  readonly isAuth?: boolean;
}

export const NO_BODY: Body = { kind: 'none' };

/**
 * A command as it goes over the wire, in UTF-8 (RFC 6856 §2).
 * @throws Pop3Error of kind `policy` for one that no server would understand as one command
 */
export function encodeCommand({ line, shown, isAuth = false }: Command): string {
  // A line end would make it two commands, a NUL or another control means nothing good.
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(line)) throw refusal(`${shown} would hold a control character`);
  if (!isAuth && Buffer.byteLength(line) + 2 > LONGEST_COMMAND)
    throw refusal(`${shown.slice(0, 60)} would be longer than the ${LONGEST_COMMAND} octets of a POP3 command`);
  return `${line}\r\n`;
}

function refusal(message: string): Pop3Error {
  return new Pop3Error(message, { kind: 'policy', remedy: 'Correct the user or the password in the config.' });
}
