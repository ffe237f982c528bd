/**
 * A TCP proxy that breaks connections on demand, for POP3, SMTP, HTTP and Redis alike. The fault can be switched while
 * it runs; octets are counted for each direction. It knows nothing of what passes through.
 */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './ports.ts';
import type { Owner } from './temp.ts';

export type Direction = 'toServer' | 'toClient';

/**
 * `after` counts the octets that a connection has passed in `direction` since the fault was set (0: at once, also for
 * connections that are open).
 * - `cut`: both ends get an orderly end (FIN). `reset`: both get a reset (RST).
 * - `halfOpen`: the server gets a reset, the client hears nothing any more: a host that vanished.
 * - `stall`: nothing passes any more in either direction, both stay connected; goes on when the fault is lifted.
 * - `swallow`: what comes in `direction` is taken and thrown away; the other direction passes.
 * - `drip`: `octets` at a time, `every` milliseconds. `delay`: everything comes `milliseconds` later, in both directions.
 * - `refuse`: nothing listens; open connections go on.
 */
export type Fault =
  | { readonly kind: 'none' | 'refuse' }
  | {
      readonly kind: 'cut' | 'reset' | 'halfOpen' | 'stall' | 'swallow';
      readonly after: number;
      readonly direction: Direction;
    }
  | { readonly kind: 'drip'; readonly octets: number; readonly every: number; readonly direction: Direction }
  | { readonly kind: 'delay'; readonly milliseconds: number };

export interface FaultProxy extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  readonly fault: Fault;
  /** Octets passed on since the start, over all connections. */
  readonly octets: Readonly<Record<Direction, number>>;
  /** Connections accepted since the start. */
  readonly connections: number;
  /** Those that are not closed at both sides. */
  readonly open: number;
  /** Switches the fault. Resolves when it is in force for open connections too. */
  set(fault: Fault): Promise<void>;
  /** Resets all open connections now, whatever the fault. */
  resetAll(): void;
  stop(): Promise<void>;
}

const NONE: Fault = { kind: 'none' };

/** A proxy in front of `target` (a port of 127.0.0.1, a place, or the path of a Unix socket), stopped with `owner`. */
export async function startFaultProxy(
  target: number | string | { readonly host: string; readonly port: number },
  owner?: Owner,
): Promise<FaultProxy> {
  const proxy = new Faulty(target, await freePort());
  await proxy.listen();
  owner?.after(() => proxy.stop());
  return proxy;
}

class Faulty implements FaultProxy {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly octets = { toServer: 0, toClient: 0 };
  connections = 0;
  readonly #target: ConstructorParameters<typeof Link>[1];
  readonly #links = new Set<Link>();
  #server: Server | undefined;
  #fault: Fault = NONE;

  constructor(target: number | string | { readonly host: string; readonly port: number }, port: number) {
    this.#target = typeof target === 'number' ? { host: '127.0.0.1', port: target } : target;
    this.port = port;
  }

  get fault(): Fault {
    return this.#fault;
  }

  get open(): number {
    return this.#links.size;
  }

  async listen(): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (client) => {
      this.connections++;
      const link = new Link(client, this.#target, this.#fault, this.octets);
      this.#links.add(link);
      void link.closed.then(() => this.#links.delete(link));
    });
    server.listen(this.port, this.host);
    await once(server, 'listening');
    this.#server = server;
  }

  async set(fault: Fault): Promise<void> {
    this.#fault = fault;
    for (const link of this.#links) link.set(fault);
    if (fault.kind === 'refuse') this.#unlisten();
    else if (this.#server === undefined) await this.listen();
  }

  resetAll(): void {
    for (const link of this.#links) link.reset();
  }

  async stop(): Promise<void> {
    this.#unlisten();
    const closed = [...this.#links].map((link) => link.closed);
    this.resetAll();
    await Promise.all(closed);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #unlisten(): void {
    this.#server?.close(); // stops listening at once; connections go on
    this.#server = undefined;
  }
}

/** One connection with its two halves. */
class Link {
  readonly closed: Promise<unknown>;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #total: Record<Direction, number>;
  readonly #stop = new AbortController();
  #passed: Record<Direction, number> = { toServer: 0, toClient: 0 };
  #fault: Fault;
  #changed = Promise.withResolvers<void>();
  /** When what is delayed has been written. */
  readonly #delayed: Record<Direction, Promise<unknown>> = { toServer: Promise.resolve(), toClient: Promise.resolve() };
  /** After a cut whatever still comes is thrown away: unread octets would turn the FIN into a reset. */
  #isCut = false;

  constructor(
    client: Socket,
    target: string | { readonly host: string; readonly port: number },
    fault: Fault,
    total: Record<Direction, number>,
  ) {
    this.#client = client;
    this.#total = total;
    this.#fault = fault;
    this.#server =
      typeof target === 'string'
        ? connect({ path: target, allowHalfOpen: true })
        : connect({ ...target, allowHalfOpen: true });
    for (const socket of [client, this.#server]) socket.setNoDelay(true);
    client.on('error', () => this.reset());
    this.#server.on('error', () => this.reset());
    this.closed = Promise.all([ended(client), ended(this.#server)]);
    void this.closed.then(() => this.#stop.abort());
    this.set(fault);
    void this.#pump(client, this.#server, 'toServer');
    void this.#pump(this.#server, client, 'toClient');
  }

  set(fault: Fault): void {
    this.#fault = fault;
    this.#passed = { toServer: 0, toClient: 0 };
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
    if ('after' in fault && fault.after === 0) this.#strike(fault.kind);
  }

  reset(): void {
    this.#stop.abort();
    for (const socket of [this.#client, this.#server]) abort(socket);
  }

  #strike(kind: Fault['kind']): void {
    if (kind === 'reset') this.reset();
    else if (kind === 'halfOpen') abort(this.#server);
    else if (kind === 'cut') {
      this.#isCut = true;
      for (const socket of [this.#client, this.#server]) socket.end();
    }
  }

  async #pump(from: Socket, to: Socket, direction: Direction): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        let rest = chunk;
        while (rest.length > 0) rest = rest.subarray(await this.#pass(rest, to, direction));
      }
      await this.#delayed[direction];
      await this.#whileHeld(); // an end does not pass where octets do not
      to.end();
    } catch {
      // one of the two is gone; so is the other, unless it is not to know
      if (direction === 'toServer' || this.#fault.kind !== 'halfOpen') to.destroySoon();
    }
  }

  /** Passes some of `chunk`, as the fault of the moment has it. @returns how many octets are dealt with */
  async #pass(chunk: Buffer, to: Socket, direction: Direction): Promise<number> {
    this.#stop.signal.throwIfAborted();
    if (this.#isCut) return chunk.length;
    const fault = this.#fault;
    if (fault.kind === 'delay') {
      const before = this.#delayed[direction]; // keeps the order when the delay is shortened meanwhile
      const wait = sleep(fault.milliseconds, undefined, { signal: this.#stop.signal });
      this.#delayed[direction] = Promise.all([wait, before])
        .then(() => this.#write(chunk, to, direction))
        .catch(() => undefined); // stopped
      return chunk.length;
    }
    await this.#delayed[direction];
    if ('after' in fault) return this.#passUpTo(fault, chunk, to, direction);
    const piece = fault.kind === 'drip' && fault.direction === direction ? chunk.subarray(0, fault.octets) : chunk;
    await this.#write(piece, to, direction);
    if (fault.kind === 'drip' && fault.direction === direction) {
      await this.#changedOr(sleep(fault.every, undefined, { signal: this.#stop.signal }));
    }
    return piece.length;
  }

  async #passUpTo(
    fault: Extract<Fault, { after: number }>,
    chunk: Buffer,
    to: Socket,
    direction: Direction,
  ): Promise<number> {
    const left = fault.after - this.#passed[fault.direction];
    if (left <= 0) {
      if (fault.kind === 'swallow') {
        if (direction !== fault.direction) await this.#write(chunk, to, direction);
        return chunk.length;
      }
      if (fault.kind === 'halfOpen') return chunk.length; // into the void
      await this.#whileHeld();
      return 0;
    }
    const piece = direction === fault.direction ? chunk.subarray(0, left) : chunk;
    await this.#write(piece, to, direction);
    if (direction === fault.direction && piece.length === left) this.#strike(fault.kind);
    return piece.length;
  }

  /** Waits until nothing is stalled. */
  async #whileHeld(): Promise<void> {
    for (;;) {
      const fault = this.#fault;
      if (fault.kind !== 'stall' || this.#passed[fault.direction] < fault.after) return;
      await this.#changedOr(this.closed);
      this.#stop.signal.throwIfAborted();
    }
  }

  async #changedOr(other: Promise<unknown>): Promise<void> {
    await Promise.race([this.#changed.promise, other]);
  }

  async #write(octets: Buffer, to: Socket, direction: Direction): Promise<void> {
    if (to.destroyed) {
      this.reset(); // as a kernel answers who writes to a socket that is gone
      throw new Error('gone');
    }
    this.#passed[direction] += octets.length;
    this.#total[direction] += octets.length;
    if (!to.write(octets)) await once(to, 'drain', { signal: this.#stop.signal });
  }
}

/** Ends a socket by a reset. While its FIN is on the way that cannot be had: Node would then never close it at all. */
function abort(socket: Socket): void {
  if (socket.connecting || (socket.writableEnded && !socket.writableFinished)) socket.destroy();
  else socket.resetAndDestroy();
}

function ended(socket: Socket): Promise<unknown> {
  return new Promise((resolve) => {
    socket.once('close', resolve);
  });
}
