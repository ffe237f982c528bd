/**
 * For `npm run test:fuzz`, loaded before each test file: properties run a hundred times as often as in `npm test`, each
 * for a minute at most. A failure prints its seed and path.
 */

import { configureGlobal } from 'fast-check';

configureGlobal({ numRuns: 10_000, interruptAfterTimeLimit: 60_000, markInterruptAsFailure: false });
