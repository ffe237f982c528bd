/**
 * Loaded into the program under test (`--import`): its clocks, the monotonic one too, are ahead by what the file
 * MAILFERRY_TEST_CLOCK says, in milliseconds. Timers run as ever, as after a machine was suspended.
 */

import { readFileSync } from 'node:fs';

const file = process.env.MAILFERRY_TEST_CLOCK ?? '';
const now = Date.now.bind(Date);
const monotonic = performance.now.bind(performance);

// Read each time: a frozen process must wake up to the new time, not learn of it later.
const ahead = () => Number(readFileSync(file, 'utf8'));

Date.now = () => now() + ahead();
performance.now = () => monotonic() + ahead();
