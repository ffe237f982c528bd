/**
 * Ports for servers that cannot listen on port 0 and must find theirs again after a restart. They lie below the range
 * that the kernel hands out by itself, so that no connection of another test gets one in the meantime.
 */

import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';

const LOWEST = 10_000;
/** Those that were given out, and may not be in use yet. */
const given = new Set<number>();

function firstEphemeral(): number {
  try {
    return Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'), 10);
  } catch {
    return 32_768; // no Linux: the usual start all the same
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => {
      resolve(false);
    });
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

/** A port on 127.0.0.1 that nobody listens on now, drawn at random. Never the same twice in a process. */
export async function freePort(): Promise<number> {
  const end = firstEphemeral();
  for (let tries = 0; tries < 100; tries++) {
    const port = LOWEST + Math.floor(Math.random() * (end - LOWEST));
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
  throw new Error(`no free port between ${String(LOWEST)} and ${String(end)}`);
}

/** Whether something accepts connections there: a port of 127.0.0.1, or the path of a Unix socket. */
export function accepts(place: number | string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = typeof place === 'number' ? connect(place, '127.0.0.1') : connect(place);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
