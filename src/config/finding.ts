/**
 * Something found in a config, before it has a place: a path into the tree of fields. Becomes a `Problem` in
 * `problems.ts`, which alone decides what of the value may be shown.
 */

export type Path = readonly (string | number)[];

export interface Place {
  readonly file: string;
  /** From 1; undefined where there is none (a whole file). */
  readonly line: number | undefined;
  readonly column: number | undefined;
}

export interface Finding {
  readonly severity: 'error' | 'warning';
  readonly path: Path;
  /** What is said of the value or the field: `is missing`, `is over 65535`. Never holds a value that may be secret. */
  readonly message: string;
  readonly remedy: string;
  /** Where it is not the place of `path`. */
  readonly place?: Place;
}

export function wrong(path: Path, message: string, remedy: string): Finding {
  return { severity: 'error', path, message, remedy };
}

export function doubtful(path: Path, message: string, remedy: string): Finding {
  return { severity: 'warning', path, message, remedy };
}

/** Below another path. */
export function under(prefix: Path, findings: readonly Finding[]): Finding[] {
  return findings.map((finding) => ({ ...finding, path: [...prefix, ...finding.path] }));
}

/** A key for maps. */
export function pathKey(path: Path): string {
  return path.join('\0');
}

/** `accounts.old-isp.deliverTo.0` */
export function fieldName(path: Path): string {
  return path.map((step) => (/^[\w@+<-][\w.@+<-]*$/.test(String(step)) ? step : JSON.stringify(step))).join('.');
}

/** `config/mailferry.yaml:12:5` */
export function placeName({ file, line, column }: Place): string {
  if (line === undefined) return file;
  return column === undefined ? `${file}:${String(line)}` : `${file}:${String(line)}:${String(column)}`;
}
