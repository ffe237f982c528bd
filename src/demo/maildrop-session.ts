/**
 * One POP3 session of the sandbox, command by command (RFC 1939, RFC 2449; pure): lines in, octets out. A session that
 * ends without QUIT deletes nothing.
 */

const CAPABILITIES = [
  'TOP',
  'USER',
  'UIDL',
  'PIPELINING',
  'RESP-CODES',
  'AUTH-RESP-CODE',
  'EXPIRE NEVER',
  'IMPLEMENTATION mailferry-sandbox',
];

export interface MaildropMessage {
  readonly uniqueId: string;
  readonly octets: Buffer;
}

/** What the session asks of its maildrop. */
export interface Access {
  isOwner(user: string, password: string): boolean;
  /** @returns undefined while another session has the maildrop */
  lock(): { readonly messages: readonly MaildropMessage[]; release(): void } | undefined;
  retrieved(message: MaildropMessage): void;
  /** The UPDATE state. */
  update(deleted: readonly MaildropMessage[]): void;
}

interface Transaction {
  /** Numbered from 1, for the whole session. */
  readonly messages: readonly MaildropMessage[];
  readonly deleted: Set<MaildropMessage>;
  release(): void;
}

type Answer = string | Buffer;

export class MaildropSession {
  readonly #access: Access;
  #user: string | undefined;
  #transaction: Transaction | undefined;
  #ended = false;

  constructor(access: Access) {
    this.#access = access;
  }

  /** True after QUIT: no further command is answered. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The connection is gone: without QUIT, nothing is deleted. */
  end(): void {
    this.#ended = true;
    this.#transaction?.release();
    this.#transaction = undefined;
  }

  /** @param line a command without its line end, one character an octet */
  answer(line: string): Answer {
    const [word = ''] = line.split(' ', 1);
    const verb = word.toUpperCase();
    const argument = line.length > word.length ? line.slice(word.length + 1) : undefined;
    if (verb === 'CAPA' && argument === undefined) return lines('+OK what this server can do', CAPABILITIES);
    if (verb === 'QUIT' && argument === undefined) return this.#quit();
    return this.#transaction
      ? transact(verb, argument, this.#transaction, this.#access)
      : this.#authorize(verb, argument);
  }

  #authorize(verb: string, argument: string | undefined): Answer {
    if (verb === 'USER' && argument) {
      this.#user = argument;
      return '+OK\r\n';
    }
    if (verb !== 'PASS' || argument === undefined) return '-ERR not a command before login\r\n';
    const user = this.#user;
    this.#user = undefined;
    if (user === undefined) return '-ERR USER comes first\r\n';
    if (!this.#access.isOwner(user, argument)) return '-ERR [AUTH] wrong user or password\r\n';
    const locked = this.#access.lock();
    if (!locked) return '-ERR [IN-USE] another session has this maildrop\r\n';
    this.#transaction = { messages: locked.messages, deleted: new Set(), release: () => locked.release() };
    return `+OK ${contents(locked.messages)}\r\n`;
  }

  #quit(): Answer {
    const deleted = [...(this.#transaction?.deleted ?? [])];
    this.#access.update(deleted);
    this.end();
    return deleted.length === 0 ? '+OK bye\r\n' : `+OK ${String(deleted.length)} deleted, bye\r\n`;
  }
}

/** The TRANSACTION state. */
function transact(verb: string, argument: string | undefined, transaction: Transaction, access: Access): Answer {
  const { messages, deleted } = transaction;
  if (argument === undefined) {
    const kept = messages.filter((message) => !deleted.has(message));
    switch (verb) {
      case 'STAT':
        return `+OK ${String(kept.length)} ${String(octets(kept))}\r\n`;
      case 'LIST':
      case 'UIDL':
        return lines(
          `+OK ${contents(kept)}`,
          kept.map((message) => row(verb, messages.indexOf(message) + 1, message)),
        );
      case 'NOOP':
        return '+OK\r\n';
      case 'RSET':
        deleted.clear();
        return `+OK ${contents(messages)}\r\n`;
      default:
        return '-ERR no such command\r\n';
    }
  }
  const { first, second } = /^(?<first>\d{1,9})(?: (?<second>\d{1,9}))?$/.exec(argument)?.groups ?? {};
  if (first === undefined || (verb === 'TOP') !== (second !== undefined)) return '-ERR wrong arguments\r\n';
  const message = messages[Number(first) - 1];
  if (!message || deleted.has(message)) return '-ERR no such message\r\n';
  switch (verb) {
    case 'LIST':
    case 'UIDL':
      return `+OK ${row(verb, Number(first), message)}\r\n`;
    case 'RETR':
      access.retrieved(message);
      return multiline(`+OK ${String(message.octets.length)} octets`, message.octets);
    case 'TOP':
      return multiline('+OK', head(message.octets, Number(second)));
    case 'DELE':
      deleted.add(message);
      return `+OK message ${first} will go at QUIT\r\n`;
    default:
      return '-ERR no such command\r\n';
  }
}

function row(verb: 'LIST' | 'UIDL', place: number, { uniqueId, octets }: MaildropMessage): string {
  return `${String(place)} ${verb === 'LIST' ? String(octets.length) : uniqueId}`;
}

function contents(messages: readonly MaildropMessage[]): string {
  return `${String(messages.length)} messages (${String(octets(messages))} octets)`;
}

function octets(messages: readonly MaildropMessage[]): number {
  return messages.reduce((sum, message) => sum + message.octets.length, 0);
}

function lines(status: string, rows: readonly string[]): string {
  return [status, ...rows, '.', ''].join('\r\n');
}

/** Dot-stuffed and ended (RFC 1939 §3). */
function multiline(status: string, content: Buffer): Buffer {
  const text = `\r\n${content.toString('latin1')}`.replaceAll('\r\n.', '\r\n..');
  return Buffer.from(`${status}${text}${text.endsWith('\r\n') ? '' : '\r\n'}.\r\n`, 'latin1');
}

/** The header, the empty line, and so many lines of the body (RFC 1939 §7). */
function head(content: Buffer, count: number): Buffer {
  let end = content.indexOf('\r\n\r\n') + 4;
  if (end < 4) return content;
  for (let left = count; left > 0 && end < content.length; left -= 1) {
    const at = content.indexOf('\r\n', end);
    end = at === -1 ? content.length : at + 2;
  }
  return content.subarray(0, end);
}
