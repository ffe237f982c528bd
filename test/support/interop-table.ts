/**
 * A reporter for `npm run test:interop`: a table with a row for each server and a column for each file of tests, and below
 * it one with a row for each behaviour that several servers are held to.
 */

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
  const behaviours = new Map<string, Map<string, Cell>>();
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
    const names = at.names.slice(0, nesting + 1);
    const counted = [cellOf(cells, serverOf(names), topic)];
    if (SERVERS.includes(names.at(-2) ?? '')) counted.push(cellOf(behaviours, name, serverOf(names)));
    for (const cell of counted)
      cell[data.skip !== undefined ? 'skipped' : type === 'test:pass' ? 'passed' : 'failed'] += 1;
    if (type === 'test:fail') {
      yield `FAILED ${topic}: ${at.names.slice(0, nesting + 1).join(' > ')}\n  ${explain(data.details.error)}\n`;
    }
  }
  yield render('server', cells, SERVERS.concat(OTHERS), [...files].toSorted());
  const shared = [...behaviours].filter(([, row]) => row.size > 1).map(([name]) => name);
  if (shared.length > 0) yield `\n${render('behaviour', behaviours, shared, POP3_SERVERS)}`;
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

function render(
  corner: string,
  cells: ReadonlyMap<string, ReadonlyMap<string, Cell>>,
  names: readonly string[],
  columns: readonly string[],
): string {
  const rows = [[corner, ...columns]];
  for (const name of names) {
    const row = cells.get(name);
    if (row !== undefined) rows.push([name, ...columns.map((column) => words(row.get(column)))]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
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
