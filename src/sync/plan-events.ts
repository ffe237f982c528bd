/** What a plan's changes to the ledger mean for the audit trail. Pure; it only tells, and decides nothing. */

import type { Plan } from './plan.ts';
import type { TrailEvent } from './trail.ts';

/** @param now milliseconds since 1970 */
export function planEvents(todo: Pick<Plan, 'put' | 'forget' | 'renamed'>, now: number): TrailEvent[] {
  const events: TrailEvent[] = [];
  const renamed = new Set(todo.renamed.flatMap(({ from, to }) => [from, to]));
  for (const { before, after } of todo.put) {
    const { uniqueId, size, reason } = after;
    if (before === undefined && after.state !== 'skipped' && !renamed.has(after))
      events.push({ event: 'seen', uniqueId, size, at: now });
    if (after.state === 'quarantined' && before?.state !== 'quarantined' && !renamed.has(after))
      events.push({ event: 'quarantined', uniqueId, reason, at: now });
  }
  // Under both names, so that the history of each leads to the other.
  for (const { from, to } of todo.renamed) {
    for (const { uniqueId } of [from, to])
      events.push({ event: 'renamed', uniqueId, from: from.uniqueId, to: to.uniqueId, at: now });
  }
  for (const entry of todo.forget) {
    if (renamed.has(entry) || entry.state === 'deleted') continue;
    // Of what had a delete pending, the +OK to QUIT was lost, and its absence is the proof.
    const event = entry.state === 'deleting' ? 'deleted' : 'vanished';
    events.push({ event, uniqueId: entry.uniqueId, at: now });
  }
  return events;
}
