/** `npm run generate`: writes what is made from the schema. A test fails when the files and the schema have drifted apart. */

import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { publishedSchema } from './json-schema.ts';
import { referencePage } from './reference.ts';

/** The generated files, by path from the top of the project. */
export function generatedFiles(): ReadonlyMap<string, string> {
  return new Map([
    ['config/mailferry.schema.json', `${JSON.stringify(publishedSchema(), undefined, 2)}\n`],
    ['docs/configuration.md', referencePage()],
  ]);
}

if (import.meta.main) {
  for (const [path, text] of generatedFiles()) await writeFile(resolve(import.meta.dirname, '../..', path), text);
}
