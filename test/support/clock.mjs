/**
 * Loaded into the program under test (`--import`): its clock of the day is ahead by what the file MAILFERRY_TEST_CLOCK says,
 * in milliseconds. SIGUSR2 reads it again. Timers and the monotonic clock run as ever, as after a jump of the real clock.
 */

import { readFileSync } from 'node:fs';

const { now } = Date;
const file = process.env.MAILFERRY_TEST_CLOCK ?? '';
let ahead = read();

function read() {
  return Number(readFileSync(file, 'utf8'));
}

Date.now = () => now() + ahead;
process.on('SIGUSR2', () => {
  ahead = read();
});
