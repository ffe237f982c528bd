/** Prometheus text (version 0.0.4) of how every account stands. Pure. */

import type { AccountStatus } from './status.ts';

interface Metric {
  readonly name: string;
  readonly type: 'gauge' | 'counter';
  readonly help: string;
  readonly value: (status: AccountStatus, now: number) => number;
}

/** A destination, as the metrics know it. */
export interface DestinationStatus {
  readonly name: string;
  readonly paused: boolean;
}

const seconds = (milliseconds: number): number => Math.max(0, Math.round(milliseconds / 1000));

const METRICS: readonly Metric[] = [
  {
    name: 'mailferry_deliveries_total',
    type: 'counter',
    help: 'Confirmed deliveries.',
    value: ({ delivered }) => delivered,
  },
  {
    name: 'mailferry_deletes_total',
    type: 'counter',
    help: 'Messages deleted from the server, proved by QUIT.',
    value: ({ deleted }) => deleted,
  },
  {
    name: 'mailferry_in_doubt_total',
    type: 'counter',
    help: 'Deliveries that may have been made twice.',
    value: ({ inDoubt }) => inDoubt,
  },
  {
    name: 'mailferry_deferred',
    type: 'gauge',
    help: 'Messages that wait for a further attempt.',
    value: ({ deferred }) => deferred,
  },
  {
    name: 'mailferry_quarantined',
    type: 'gauge',
    help: 'Messages that need a person.',
    value: ({ quarantined }) => quarantined,
  },
  {
    name: 'mailferry_on_server',
    type: 'gauge',
    help: 'Messages at the last complete listing; -1 before the first.',
    value: ({ onServer }) => onServer,
  },
  {
    name: 'mailferry_since_success_seconds',
    type: 'gauge',
    help: 'Since the last poll that ended well; -1 before the first.',
    value: ({ lastSuccess }, now) => (lastSuccess === 0 ? -1 : seconds(now - lastSuccess)),
  },
  {
    name: 'mailferry_needs_person',
    type: 'gauge',
    help: '1 if the account needs a person.',
    value: ({ state }) => (state === 'needs a person' ? 1 : 0),
  },
];

/** All metrics of all accounts, and of the process. */
export function metricsText(
  statuses: readonly AccountStatus[],
  destinations: readonly DestinationStatus[],
  now: number,
  configRefused: boolean,
): string {
  const lines = [
    '# HELP mailferry_config_refused 1 while the config as it is written is wrong, and the one from before in use.',
    '# TYPE mailferry_config_refused gauge',
    `mailferry_config_refused ${configRefused ? 1 : 0}`,
    '# HELP mailferry_destination_paused 1 while a destination gets nothing, because it failed again and again.',
    '# TYPE mailferry_destination_paused gauge',
    ...destinations.map(
      ({ name, paused }) => `mailferry_destination_paused{destination="${label(name)}"} ${paused ? 1 : 0}`,
    ),
  ];
  for (const { name, type, help, value } of METRICS) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const status of statuses) lines.push(`${name}{account="${label(status.account)}"} ${value(status, now)}`);
  }
  return `${lines.join('\n')}\n`;
}

function label(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
