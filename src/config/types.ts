/**
 * The config as the program uses it: compiled once, frozen, fully defaulted, base units (milliseconds, octets).
 * No raw option travels further than `config/load.ts`.
 */

import type { Route } from '../sync/route.ts';

/** A secret that is read when it is used, so that a rotated file counts at once. Prints as `[secret]` everywhere. */
export interface Secret {
  /** Throws a `Failure` (scope `account` or `destination`) that names where the secret should have come from. */
  reveal(): Promise<string>;
}

export type Security = 'tls' | 'starttls' | 'none';

/** How a TLS server is verified, beyond the system's authorities. */
export interface TlsConfig {
  /** Absolute path of a PEM file that replaces the system's authorities. */
  readonly caFile: string | undefined;
  /** SHA-256 of the server's certificate, 64 lower-case hexadecimal digits; replaces the check of chain and name. */
  readonly fingerprint: string | undefined;
  /** The name to ask for (SNI) and to check, in place of the host. */
  readonly serverName: string | undefined;
  /** Client certificate and key, absolute paths of PEM files. */
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
}

export type Retention = 'delete' | 'keep' | { readonly deleteAfter: number };

export interface AccountConfig {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly security: Security;
  readonly tls: TlsConfig;
  readonly user: string;
  /** Undefined if a token or a client certificate stands in for it. */
  readonly password: Secret | undefined;
  /** OAuth 2.0; never beside a password. */
  readonly accessToken?: Secret;
  /** A SASL mechanism, `apop` or `user`; undefined: the strongest that both sides know. */
  readonly mechanism: string | undefined;
  readonly schedule:
    | { readonly kind: 'every'; readonly milliseconds: number }
    | { readonly kind: 'cron'; readonly expression: string; readonly timezone: string | undefined };
  /** Every destination that a message may go to, fallbacks aside. */
  readonly deliverTo: readonly string[];
  /** Which of them a message goes to; undefined: all. */
  readonly routes: readonly Route[] | undefined;
  /** Those whose failure does not hold up the delete. */
  readonly optional: readonly string[];
  /** Destination -> the one that is used where it has rejected a message. */
  readonly fallback: Readonly<Record<string, string>>;
  readonly retention: Retention;
  readonly firstPoll: 'deliver' | 'skip';
  /** Octets; a larger message is quarantined without being retrieved. */
  readonly maxMessageSize: number;
  /** Messages retrieved in one poll; more make a further poll job. */
  readonly maxMessagesPerPoll: number;
  /** Deferred deliveries are retried for this long after the message was first seen. Milliseconds. */
  readonly giveUpAfter: number;
  /** The longest wait for one reply of the POP3 server. Milliseconds. */
  readonly timeout: number;
  /** `socks5://` or `http://` proxy URL, credentials included (so never to be logged). */
  readonly proxy: string | undefined;
  /** Local address to connect from. */
  readonly sourceAddress: string | undefined;
}

export interface DestinationBase {
  readonly name: string;
  /** Deliveries at a time, over all accounts of this worker. */
  readonly concurrency: number;
  /** The longest one delivery may take, wall clock, from its turn to its outcome. Milliseconds. */
  readonly timeout: number;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Whom a message is for where one maildrop holds the mail of several people: told by header fields of the provider. */
export interface MultidropConfig {
  /** Names of header fields, the most telling first: `Delivered-To`, `X-Original-To`, `X-Envelope-To`. */
  readonly headers: readonly string[];
  /** Cut off the front of each address found: `example.com-` in qmail's `example.com-jane@example.com`. */
  readonly removePrefix: string | undefined;
  /** Addresses elsewhere are not delivered to. Lower case. */
  readonly domains: readonly string[];
}

export interface SrsConfig {
  /** The domain of rewritten addresses: one whose mail, and SPF record, are ours. */
  readonly domain: string;
  /** The first signs; all are known when an address is reversed. */
  readonly secrets: readonly Secret[];
}

export type ReversePath =
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'original' }
  | ({ readonly kind: 'srs' } & SrsConfig);

export interface SmtpConfig extends DestinationBase {
  readonly type: 'smtp';
  readonly host: string;
  readonly port: number;
  /** Tried in this order when `host` cannot be reached or has no session for us. */
  readonly fallbackHosts?: readonly Endpoint[];
  readonly security: Security;
  readonly tls: TlsConfig;
  readonly auth: { readonly user: string; readonly password: Secret } | undefined;
  readonly to: readonly string[];
  /** Recipients from the message; `to` is for messages that name none. */
  readonly multidrop?: MultidropConfig;
  /** The reverse-path: an address, the original one of the message, or that one rewritten. */
  readonly from: ReversePath;
  /** Adds one `Received:` field on top (RFC 5321 §4.4). */
  readonly trace: boolean;
  /** Messages with more `Received:` fields are taken to be in a loop (RFC 5321 §6.3). */
  readonly maxHops?: number;
  /** Sends the message as an attachment of one from this address, for servers that refuse forwarded mail. */
  readonly attachFrom?: string;
  /** Asks for TLS on the whole way to the recipient (REQUIRETLS, RFC 8689). */
  readonly requireTls?: boolean;
  /** The name in EHLO; undefined: the host's own. */
  readonly helo: string | undefined;
}

export interface WebhookConfig extends DestinationBase {
  readonly type: 'webhook';
  readonly url: string;
  /** Standard Webhooks secret (`whsec_...`); undefined: unsigned. */
  readonly secret: Secret | undefined;
  /** Further secrets: each request carries a signature for every one, so that the receiver can change over. */
  readonly moreSecrets?: readonly Secret[];
  readonly format: 'raw' | 'json' | 'multipart';
  readonly headers: Readonly<Record<string, string>>;
  readonly auth?:
    | { readonly kind: 'basic'; readonly user: string; readonly password: Secret }
    | { readonly kind: 'bearer'; readonly token: Secret };
  readonly allowPrivate: boolean;
  readonly tls: TlsConfig;
  /** `http://` or `https://` URL of a proxy that is asked to CONNECT; credentials included, so never to be logged. */
  readonly proxy?: Secret;
}

export interface LmtpConfig extends DestinationBase {
  readonly type: 'lmtp';
  /** A host, or the path of a Unix socket. */
  readonly place: Endpoint | { readonly path: string };
  readonly security: Security;
  readonly tls: TlsConfig;
  readonly auth: SmtpConfig['auth'];
  readonly to: readonly string[];
  readonly multidrop?: MultidropConfig;
  readonly from: ReversePath;
  readonly trace: boolean;
  readonly maxHops?: number;
  readonly helo: string | undefined;
}

export interface ImapConfig extends DestinationBase {
  readonly type: 'imap';
  readonly host: string;
  readonly port: number;
  readonly security: Security;
  readonly tls: TlsConfig;
  readonly auth: { readonly user: string; readonly password: Secret };
  /** Made if it does not exist. */
  readonly folder: string;
  /** `\\Seen`, or keywords. */
  readonly flags: readonly string[];
}

export interface MaildirConfig extends DestinationBase {
  readonly type: 'maildir';
  /** Absolute; made if it does not exist. */
  readonly path: string;
  /** Letters of the info part, `S` for seen; with none, messages go to `new`. */
  readonly flags: string;
  /** `crlf` stores the octets as they are; `lf` as the system's programs write text, for servers that insist. */
  readonly lineEnds: 'crlf' | 'lf';
}

export type DestinationConfig = SmtpConfig | WebhookConfig | LmtpConfig | ImapConfig | MaildirConfig;

export type RedisConfig =
  | { readonly kind: 'embedded' }
  | { readonly kind: 'url'; readonly url: Secret }
  | { readonly kind: 'socket'; readonly path: string };

export interface HttpConfig {
  readonly host: string;
  readonly port: number;
  readonly token: Secret | undefined;
}

export interface LimitsConfig {
  readonly sessionsPerServer: number | undefined;
  readonly deliveriesPerDestination: number | undefined;
}

/** Whom to tell of what needs a person. */
export interface AlertsConfig {
  /** Names of destinations; each gets every alert. */
  readonly deliverTo: readonly string[];
  /** Trouble that may pass by itself is told of when it has lasted this long. Milliseconds. */
  readonly after: number;
  /** The address in `From:`; undefined: one of the destination's own. */
  readonly from: string | undefined;
}

export interface Config {
  /** The file or folder it came from, for messages. */
  readonly source: string;
  readonly dataDir: string;
  readonly redis: RedisConfig;
  readonly http: HttpConfig | undefined;
  readonly alerts?: AlertsConfig;
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' };
  /** What is kept of the audit trail of each account: milliseconds, and the number of events. */
  readonly history: { readonly keep: number; readonly events: number };
  /** Accounts polled at a time by this worker. */
  readonly concurrency: number;
  /** Octets of messages held in memory at a time, over all accounts. */
  readonly memoryBudget: number;
  /** Octets of large messages on the disk at a time, over all accounts. */
  readonly spoolBudget: number;
  /** Over all workers on one Redis; undefined is no limit. */
  readonly limits: LimitsConfig;
  readonly destinations: ReadonlyMap<string, DestinationConfig>;
  readonly accounts: ReadonlyMap<string, AccountConfig>;
}

/** One thing that is wrong in a config, in words a person can act on. */
export interface Problem {
  readonly severity: 'error' | 'warning';
  readonly file: string;
  /** From 1; undefined where the problem has no place (a missing file). */
  readonly line: number | undefined;
  readonly column: number | undefined;
  /** `accounts.old-isp.port`. */
  readonly field: string;
  /** What stands there, cut and escaped; never a secret. */
  readonly value: string | undefined;
  readonly message: string;
  readonly remedy: string;
  /** The account or destination that is left out because of it, or all alerts; undefined: nothing can run. */
  readonly leavesOut: { readonly kind: 'account' | 'destination' | 'alerts'; readonly name: string } | undefined;
}

/** What loading gives: the config without what is wrong, and everything that is wrong. */
export interface Loaded {
  /** Undefined if nothing can run (no readable file, bad YAML, a problem outside accounts, destinations and alerts). */
  readonly config: Config | undefined;
  readonly problems: readonly Problem[];
}
