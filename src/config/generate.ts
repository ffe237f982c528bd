/** `npm run generate`: writes what is made from the schema and from the failure policy. A test fails when they have drifted apart. */

import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { publishedSchema } from './json-schema.ts';
import { failuresPage } from '../sync/failures.ts';
import { referencePage } from './reference.ts';

/** The generated files, by path from the top of the project. */
export function generatedFiles(): ReadonlyMap<string, string> {
  return new Map([
    ['config/mailferry.schema.json', `${JSON.stringify(publishedSchema(), undefined, 2)}\n`],
    ['docs/configuration.md', referencePage()],
    ['docs/failures.md', failuresPage()],
  ]);
}

if (import.meta.main) {
  for (const [path, text] of generatedFiles()) await writeFile(resolve(import.meta.dirname, '../..', path), text);
}
