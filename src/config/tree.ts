/**
 * YAML text to plain values with the place of every field. Expands aliases itself, under a limit, so that a small file
 * never becomes a large value; never quotes the text in a problem, since a syntax error may stand in a password.
 */

import { isAlias, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { Alias, Node, YAMLMap } from 'yaml';
import { pathKey, placeName, wrong } from './finding.ts';
import type { Finding, Path, Place } from './finding.ts';
import { syntaxWords } from './syntax.ts';

/** Far over any real config: an account has about 20 fields. */
const MOST_NODES = 200_000;
const DEEPEST = 16;
/** One mistake in YAML makes the parser stumble many times; more lines than this help nobody. */
const MOST_SYNTAX_ERRORS = 5;

/** The value of a file or of several: `places` holds where each field's name (or list item) stands. */
export interface Tree {
  readonly value: unknown;
  readonly places: ReadonlyMap<string, Place>;
  readonly findings: readonly Finding[];
}

/** Reads one file's text. Undefined `tree`: it is no YAML, and `findings` say why. */
export function parseTree(text: string, file: string): { tree: Tree | undefined; findings: readonly Finding[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    uniqueKeys: false, // told here, with both places
    logLevel: 'error', // `silent` would hide a second document
  });
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line, column: col };
  };
  const broken = syntaxFindings([...document.errors, ...document.warnings], placeAt);
  if (broken.length > 0) return { tree: undefined, findings: broken };
  const walk = new Walk(placeAt);
  const value = walk.value(document.contents, [], 0);
  const tree = { value, places: walk.places, findings: walk.findings };
  return walk.exhausted ? { tree: undefined, findings: walk.findings } : { tree, findings: [] };
}

interface SyntaxError {
  readonly code: string;
  readonly message: string;
  readonly pos: readonly [number, number];
}

function syntaxFindings(errors: readonly SyntaxError[], placeAt: (offset: number) => Place): Finding[] {
  const byLine = new Map<number | undefined, Finding>();
  for (const error of [...errors].sort((a, b) => a.pos[0] - b.pos[0])) {
    const place = placeAt(error.pos[0]);
    if (byLine.has(place.line)) continue;
    const { message, remedy } = syntaxWords(error.code, error.message);
    byLine.set(place.line, { severity: 'error', path: [], message, remedy, place });
    if (byLine.size === MOST_SYNTAX_ERRORS) break;
  }
  return [...byLine.values()];
}

/** One walk over one document. */
class Walk {
  readonly places = new Map<string, Place>();
  readonly findings: Finding[] = [];
  exhausted = false;
  #nodes = 0;
  readonly #anchors = new Map<string, Node>();
  readonly #placeAt: (offset: number) => Place;

  constructor(placeAt: (offset: number) => Place) {
    this.#placeAt = placeAt;
  }

  value(node: Node | null, path: Path, depth: number): unknown {
    if (node === null || this.#isTooMuch(node, depth)) return null;
    if (isAlias(node)) return this.value(this.#resolved(node, path), path, depth + 1);
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, node);
    if (isScalar(node)) return node.value;
    if (isMap(node)) return this.#map(node, path, depth);
    if (!isSeq(node)) return null;
    return node.items.map((item, index) => {
      const inner = [...path, index];
      // `[a: b]` is a list of maps, written as pairs
      if (isPair(item) || item === null) return null;
      const child = item as Node;
      this.#mark(inner, child);
      return this.value(child, inner, depth + 1);
    });
  }

  #map(node: YAMLMap, path: Path, depth: number): Record<string, unknown> {
    // no prototype: a field called `__proto__` is a field like any other
    const result = Object.create(null) as Record<string, unknown>;
    for (const { key, value } of node.items) {
      const keyNode = key as Node | null;
      const name = isScalar(keyNode) && typeof keyNode.value === 'string' ? keyNode.value : '';
      const inner = [...path, name];
      if (Object.hasOwn(result, name)) {
        this.findings.push(this.#twice(inner, keyNode));
        continue;
      }
      this.#mark(inner, keyNode);
      result[name] = this.value(value as Node | null, inner, depth + 1);
    }
    return result;
  }

  #twice(path: Path, key: Node | null): Finding {
    const first = this.places.get(pathKey(path));
    const where = first === undefined ? '' : `: first at ${placeName(first)}`;
    const finding = wrong(path, `stands here a second time${where}`, 'keep one of them');
    return key?.range ? { ...finding, place: this.#placeAt(key.range[0]) } : finding;
  }

  #mark(path: Path, node: Node | null): void {
    if (node?.range) this.places.set(pathKey(path), this.#placeAt(node.range[0]));
  }

  #resolved(alias: Alias, path: Path): Node | null {
    const node = this.#anchors.get(alias.source);
    if (node !== undefined) return node;
    const { message, remedy } = syntaxWords('BAD_ALIAS', '');
    this.findings.push(wrong(path, message, remedy));
    return null;
  }

  #isTooMuch(node: Node, depth: number): boolean {
    if (this.exhausted) return true;
    this.#nodes += 1;
    if (this.#nodes <= MOST_NODES && depth <= DEEPEST) return false;
    this.exhausted = true;
    const message =
      depth > DEEPEST
        ? `is nested more than ${String(DEEPEST)} levels deep`
        : `has more than ${String(MOST_NODES)} fields once its aliases are expanded`;
    const finding = wrong([], message, 'write it out flat; what accounts share belongs under `defaults`');
    this.findings.push(node.range ? { ...finding, place: this.#placeAt(node.range[0]) } : finding);
    return true;
  }
}
