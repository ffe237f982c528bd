/** What CAPA says (RFC 2449 §5, §6), read tolerantly: names in any case, lists in any order, nonsense passed over. Pure. */

export interface Capabilities {
  /** False if the server knows no CAPA: then RFC 1939 alone is known of it. */
  readonly announced: boolean;
  readonly pipelining: boolean;
  /** True also where nothing was announced: UIDL and TOP are tried then, and nearly every server has them. */
  readonly uidl: boolean;
  readonly top: boolean;
  readonly user: boolean | 'unknown';
  readonly stls: boolean;
  /** Mechanisms, upper case; undefined without a SASL capability. */
  readonly sasl: readonly string[] | undefined;
  readonly respCodes: boolean;
  readonly authRespCode: boolean;
  /** RFC 2449 §6.5: the least time between two logins. */
  readonly loginDelay: { readonly seconds: number; readonly perUser: boolean } | undefined;
  /** RFC 2449 §6.7: days that messages are kept; 0 means that QUIT may delete what was retrieved. */
  readonly expire: number | 'never' | undefined;
  /** RFC 6856. */
  readonly utf8: boolean;
  readonly utf8User: boolean;
  readonly lang: boolean;
  /** Shown, never acted on (RFC 2449 §6.9). */
  readonly implementation: string | undefined;
}

/** What a server can do, before the login (behind TLS) and after it. Plain data. */
export interface Remembered {
  readonly beforeLogin: Capabilities;
  readonly afterLogin: Capabilities;
}

/** Of a server that answers CAPA with -ERR. */
export const UNANNOUNCED: Capabilities = {
  announced: false,
  pipelining: false,
  uidl: true,
  top: true,
  user: 'unknown',
  stls: false,
  sasl: undefined,
  respCodes: false,
  authRespCode: false,
  loginDelay: undefined,
  expire: undefined,
  utf8: false,
  utf8User: false,
  lang: false,
  implementation: undefined,
};

/** The lines of CAPA's answer as capabilities. */
export function parseCapabilities(lines: readonly string[]): Capabilities {
  const found = new Map<string, readonly string[]>();
  for (const line of lines) {
    const [name, ...args] = line.trim().split(/[ \t]+/);
    if (name !== undefined && name !== '') found.set(name.toUpperCase(), args);
  }
  const has = (name: string): boolean => found.has(name);
  return {
    announced: true,
    pipelining: has('PIPELINING'),
    uidl: has('UIDL'),
    top: has('TOP'),
    user: has('USER'),
    stls: has('STLS'),
    sasl: found.get('SASL')?.map((mechanism) => mechanism.toUpperCase()),
    respCodes: has('RESP-CODES'),
    authRespCode: has('AUTH-RESP-CODE'),
    loginDelay: loginDelay(found.get('LOGIN-DELAY')),
    expire: expire(found.get('EXPIRE')),
    utf8: has('UTF8'),
    utf8User: found.get('UTF8')?.some((arg) => arg.toUpperCase() === 'USER') ?? false,
    lang: has('LANG'),
    implementation: found.get('IMPLEMENTATION')?.join(' '),
  };
}

function loginDelay([seconds, scope]: readonly string[] = []): Capabilities['loginDelay'] {
  if (seconds === undefined || !/^\d{1,6}$/.test(seconds)) return undefined;
  return { seconds: Number(seconds), perUser: scope?.toUpperCase() === 'USER' };
}

function expire([days]: readonly string[] = []): Capabilities['expire'] {
  if (days === undefined) return undefined;
  if (days.toUpperCase() === 'NEVER') return 'never';
  return /^\d{1,6}$/.test(days) ? Number(days) : undefined;
}
