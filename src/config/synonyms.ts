/** What other programs call these options, so that people who come from them are told the right word. */

interface Synonym {
  /** The option that must exist where the word was written. */
  readonly field: string;
  readonly remedy: string;
}

const WORDS: Readonly<Record<string, readonly [field: string, remedy?: string]>> = {
  username: ['user'],
  login: ['user'],
  user: ['auth', 'write `auth: { user: ..., password: ... }`'],
  password: ['auth', 'write `auth: { user: ..., password: ... }`'],
  pass: ['password'],
  passwd: ['password'],
  server: ['host'],
  hostname: ['host'],
  address: ['host'],
  poll: ['every'],
  interval: ['every'],
  frequency: ['every'],
  cron: ['schedule'],
  tz: ['timezone'],
  ssl: ['security', 'write `security: tls`'],
  tls: ['security', 'write `security: tls`'],
  secure: ['security', 'write `security: tls`'],
  starttls: ['security', 'write `security: starttls`'],
  stls: ['security', 'write `security: starttls`'],
  sslfingerprint: ['fingerprint'],
  sslcertfile: ['caFile'],
  ca: ['caFile'],
  keep: ['retention', 'write `retention: keep`'],
  delete: ['retention', 'write `retention: delete`'],
  deleteafter: ['retention', 'write `retention: { deleteAfter: 30d }`'],
  destination: ['deliverTo'],
  destinations: ['deliverTo'],
  limit: ['maxMessageSize'],
  skipsize: ['maxMessageSize'],
  fetchlimit: ['maxMessagesPerPoll'],
  auth: ['mechanism'],
  recipient: ['to'],
  recipients: ['to'],
  sender: ['from'],
  envelope: ['from'],
  ehlo: ['helo'],
  endpoint: ['url'],
  loglevel: ['log', 'write `log: { level: info }`'],
};

/** The option that `word` stands for elsewhere; undefined if none is known. */
export function synonym(word: string): Synonym | undefined {
  const plain = word.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  if (!Object.hasOwn(WORDS, plain)) return undefined;
  const [field, remedy] = WORDS[plain] ?? [''];
  return { field, remedy: remedy ?? `it is called \`${field}\` here` };
}
