/** Problems of a config for people and for programs. Pure. */

import { fieldName, placeName } from './finding.ts';
import type { Problem } from './types.ts';

/**
 * One line: `config/mailferry.yaml:12:5: accounts.old-isp.port: 70000 is over 65535; for example ...`. Line ends and
 * controls in what people wrote are escaped already.
 */
export function explainProblem({ severity, field, value, message, remedy, ...place }: Problem): string {
  const kind = severity === 'warning' ? 'warning: ' : '';
  const subject = field === '' ? '' : `${field}: `;
  const said = value === undefined ? message : `${value} ${message}`;
  return `${placeName(place)}: ${kind}${subject}${said}; ${remedy}`;
}

/** All problems, a line each, and what follows from them. Empty if there are none. */
export function explainProblems(problems: readonly Problem[], runs: boolean): string {
  if (problems.length === 0) return '';
  const lines = problems.map(explainProblem);
  const left = leftOutNames(problems);
  if (!runs) lines.push('Nothing can run until this is corrected.');
  else if (left.length > 0) lines.push(`Left out until this is corrected: ${left.join(', ')}. The others run.`);
  return `${lines.join('\n')}\n`;
}

function leftOutNames(problems: readonly Problem[]): string[] {
  const names = problems.flatMap(({ leavesOut }) =>
    leavesOut ? [leavesOut.kind === 'alerts' ? 'alerts' : `${leavesOut.kind} ${fieldName([leavesOut.name])}`] : [],
  );
  return [...new Set(names)];
}

/** For `--json`: every key is there in every problem, null where it has no value. */
export function problemsToJson(problems: readonly Problem[]): Record<string, unknown>[] {
  return problems.map(({ severity, file, line, column, field, value, message, remedy, leavesOut }) => ({
    severity,
    file,
    line: line ?? null,
    column: column ?? null,
    field,
    value: value ?? null,
    message,
    remedy,
    leavesOut: leavesOut ?? null,
  }));
}
