/** What a process holds, as the kernel tells it; and whether that grows. */

import { readdirSync, readFileSync } from 'node:fs';

/** Megabytes; 0 if it has just ended, or this is no Linux. */
export function residentMegabytes(pid: number | undefined): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** Files and sockets; 0 if it has just ended, or this is no Linux. */
export function openFiles(pid: number | undefined): number {
  try {
    return readdirSync(`/proc/${String(pid)}/fd`).length;
  } catch {
    return 0;
  }
}

/** What a process has noted of itself (`../support/heap.mjs`): megabytes in use, ten seconds apart. */
export function heapOf(file: string, pid: number | undefined): Sample[] {
  let lines: string[];
  try {
    lines = readFileSync(file, 'utf8').trim().split('\n');
  } catch {
    return []; // too short a run for the first line
  }
  return lines
    .map((line) => line.split(' ').map(Number))
    .filter(([process]) => process === pid)
    .map(([, megabytes = 0], index) => [index * 10, megabytes]);
}

export type Sample = readonly [seconds: number, megabytes: number];

export interface Trend {
  /** From the first sample to the last. */
  readonly seconds: number;
  /** Megabytes from the first sample to the last, by the straight line that fits best. */
  readonly growth: number;
  /** How far samples lie from that line: their standard deviation, in megabytes. */
  readonly noise: number;
  readonly mean: number;
  readonly peak: number;
}

/** Least squares. @param samples two or more */
export function trendOf(samples: readonly Sample[]): Trend {
  const count = samples.length;
  const meanX = samples.reduce((sum, [x]) => sum + x, 0) / count;
  const mean = samples.reduce((sum, [, y]) => sum + y, 0) / count;
  const spread = samples.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const slope = samples.reduce((sum, [x, y]) => sum + (x - meanX) * (y - mean), 0) / spread;
  const squares = samples.reduce((sum, [x, y]) => sum + (y - mean - slope * (x - meanX)) ** 2, 0);
  const seconds = (samples.at(-1)?.[0] ?? 0) - (samples[0]?.[0] ?? 0);
  return {
    seconds,
    growth: slope * seconds,
    noise: Math.sqrt(squares / count),
    mean,
    peak: Math.max(...samples.map(([, y]) => y)),
  };
}
