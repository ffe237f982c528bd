/** Durations of the config: a whole number and a unit, `90s`, `5m`, `12h`, `30d`. Nothing is guessed: `90` alone is no duration. */

const UNITS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
type Unit = keyof typeof UNITS;

/** Longer makes no sense anywhere, and timestamps stay far from their limits. */
const LONGEST = 36_500 * UNITS.d;

/** For the JSON Schema. */
export const DURATION_PATTERN = '^[0-9]+[smhd]$';

/** Milliseconds; undefined if `text` is no duration or longer than a century. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,15})([smhd])$/.exec(text);
  if (match === null) return undefined;
  const milliseconds = Number(match[1]) * UNITS[match[2] as Unit];
  return milliseconds <= LONGEST ? milliseconds : undefined;
}

/** The shortest exact writing of a duration in milliseconds; what is under a second is rounded up to one. */
export function printDuration(milliseconds: number): string {
  const seconds = Math.ceil(milliseconds / UNITS.s) * UNITS.s;
  for (const unit of ['d', 'h', 'm'] as const) {
    if (seconds > 0 && seconds % UNITS[unit] === 0) return `${String(seconds / UNITS[unit])}${unit}`;
  }
  return `${String(seconds / UNITS.s)}s`;
}
