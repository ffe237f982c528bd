/**
 * Sizes of the config: a whole number and a unit, `64KB`, `25MB`, `1GB`. Units are powers of 1024, as mail servers count
 * their limits: 25MB lets through whatever a server with a limit of 25 megabytes of either kind lets through.
 */

const UNITS = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 } as const;
type Unit = keyof typeof UNITS;

/** For the JSON Schema. */
export const SIZE_PATTERN = '^[0-9]+(B|KB|MB|GB)$';

/** Octets; undefined if `text` is no size or over what a number counts exactly. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,15})(B|KB|MB|GB)$/.exec(text);
  if (match === null) return undefined;
  const octets = Number(match[1]) * UNITS[match[2] as Unit];
  return Number.isSafeInteger(octets) ? octets : undefined;
}

/** The shortest exact writing of a size in octets. */
export function printSize(octets: number): string {
  for (const unit of ['GB', 'MB', 'KB'] as const) {
    if (octets > 0 && octets % UNITS[unit] === 0) return `${String(octets / UNITS[unit])}${unit}`;
  }
  return `${String(octets)}B`;
}
