#!/usr/bin/env node
/** The entry. Before anything else is loaded, Node is told how to run, and to keep what it compiles: the next start takes half the time. */

import { enableCompileCache } from 'node:module';

const argv = process.argv.slice(2);
if (argv.includes('run') || argv.includes('sync'))
  (await import('./ops/footprint.ts')).startSmall(import.meta.filename, argv);
// Behind the settings: what was compiled under others is of no use.
enableCompileCache();
const { dispatch } = await import('./cli/dispatch.ts');
process.exitCode = await dispatch(argv);
