/**
 * The one trace field that is put on top of a forwarded message (RFC 5321 §4.4; pure). Nothing that others wrote may
 * break out of its place in it.
 */

export interface TraceDetails {
  /** The name of this host. */
  readonly hostName: string;
  /** The account the message was retrieved from. */
  readonly account: string;
  /** The idempotency key: two copies of one delivery are known by it. */
  readonly id: string;
  /** Named only if it is the only one: others' addresses are nobody's business (RFC 5321 §7.2). */
  readonly recipients: readonly string[];
  readonly time: Date;
}

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

/** The `Received:` field with its line end. There is no `from`: a message that was fetched came from no client. */
export function receivedField(details: TraceDetails): Buffer {
  const recipient = details.recipients.length === 1 ? details.recipients[0] : undefined;
  const lines = [
    `Received: by ${atom(details.hostName, 'localhost')} (mailferry) with POP3 id ${atom(details.id, 'none')}`,
    `\t(account ${atom(details.account, 'unnamed')})`,
  ];
  if (recipient !== undefined && /^[\x21-\x3b\x3d\x3f-\x7e]{1,254}$/.test(recipient))
    lines.push(`\tfor <${recipient}>`);
  return Buffer.from(`${lines.join('\r\n')}; ${dateTime(details.time)}\r\n`, 'latin1');
}

/** A date-time of RFC 5322 §3.3, in UTC: `Thu, 01 Jan 2026 00:00:00 +0000`. */
export function dateTime(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = DAYS[time.getUTCDay()] ?? 'Sun';
  const month = MONTHS[time.getUTCMonth()] ?? 'Jan';
  const clock = [time.getUTCHours(), time.getUTCMinutes(), time.getUTCSeconds()].map(two).join(':');
  return `${day}, ${two(time.getUTCDate())} ${month} ${String(time.getUTCFullYear()).padStart(4, '0')} ${clock} +0000`;
}

function atom(text: string, otherwise: string): string {
  return text.slice(0, 120).replace(/[^\w.@+:[\]-]/g, '_') || otherwise;
}
