/** A reporter for `npm run test:interop`: one table, a row for each server and a column for each file of tests. */

import { basename } from 'node:path';
import type { TestEvent } from 'node:test/reporters';
import { POP3_SERVERS } from './servers.ts';

const SERVERS: readonly string[] = [...POP3_SERVERS, 'postfix'];
const OTHERS = 'others';

interface Cell {
  passed: number;
  failed: number;
  skipped: number;
}

/** Where we are in one file: the names of the tests that are open, and which of them had tests inside. */
interface Position {
  readonly names: string[];
  readonly hadInner: boolean[];
}

// oxlint-disable-next-line import/no-default-export -- a reporter is the default export
export default async function* interopTable(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const cells = new Map<string, Map<string, Cell>>();
  const positions = new Map<string, Position>();
  const files = new Set<string>();
  for await (const { type, data } of events) {
    if (type !== 'test:start' && type !== 'test:pass' && type !== 'test:fail') continue;
    const { file = '', nesting, name } = data;
    const at = positions.get(file) ?? { names: [], hadInner: [] };
    positions.set(file, at);
    if (type === 'test:start') {
      at.names[nesting] = name;
      at.hadInner[nesting] = false;
      if (nesting > 0) at.hadInner[nesting - 1] = true;
      continue;
    }
    // what has tests inside is counted by them, but for a failure of its own
    const ownFailure = type === 'test:fail' && !isSubtestFailure(data.details.error);
    if ((at.hadInner[nesting] === true || data.details.type === 'suite') && !ownFailure) continue;
    const topic = basename(file, '.test.ts');
    files.add(topic);
    const cell = cellOf(cells, serverOf(at.names.slice(0, nesting + 1)), topic);
    if (data.skip !== undefined) cell.skipped += 1;
    else if (type === 'test:pass') cell.passed += 1;
    else {
      cell.failed += 1;
      yield `FAILED ${topic}: ${at.names.slice(0, nesting + 1).join(' > ')}\n  ${explain(data.details.error)}\n`;
    }
  }
  yield render(cells, [...files].toSorted());
}

function isSubtestFailure(error: Error): boolean {
  return 'failureType' in error && error.failureType === 'subtestsFailed';
}

function explain(error: Error): string {
  const cause = error.cause instanceof Error ? error.cause : error;
  return cause.message.split('\n').join('\n  ');
}

function serverOf(names: readonly string[]): string {
  const words = names.join(' ').toLowerCase();
  return SERVERS.find((server) => words.includes(server)) ?? OTHERS;
}

function cellOf(cells: Map<string, Map<string, Cell>>, server: string, topic: string): Cell {
  const row = cells.get(server) ?? new Map<string, Cell>();
  cells.set(server, row);
  const cell = row.get(topic) ?? { passed: 0, failed: 0, skipped: 0 };
  row.set(topic, cell);
  return cell;
}

function render(cells: ReadonlyMap<string, ReadonlyMap<string, Cell>>, topics: readonly string[]): string {
  const rows = [['server', ...topics]];
  for (const server of [...SERVERS, OTHERS]) {
    const row = cells.get(server);
    if (row !== undefined) rows.push([server, ...topics.map((topic) => words(row.get(topic)))]);
  }
  const widths = topics.concat('').map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => `${row.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  ')}\n`).join('');
}

function words(cell: Cell | undefined): string {
  if (cell === undefined) return '-';
  const parts = [
    ...(cell.failed > 0 ? [`${String(cell.failed)} FAILED`] : []),
    ...(cell.passed > 0 ? [`${String(cell.passed)} ok`] : []),
    ...(cell.skipped > 0 ? [`${String(cell.skipped)} skipped`] : []),
  ];
  return parts.join(', ');
}
