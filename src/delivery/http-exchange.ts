/**
 * One HTTP request and the beginning of its answer, without the streams that undici makes around them. What is known of how far
 * the request got is the caller's to note: it is told at the last moment before anything is sent.
 */

import type { Dispatcher } from 'undici';

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

export interface HttpRequest extends Pick<Dispatcher.DispatchOptions, 'origin' | 'path' | 'body'> {
  readonly headers: Record<string, string>;
}

export interface HttpAnswerLimits {
  /** Octets of the answer's body that are read; a longer one costs its connection. */
  readonly octets: number;
  /** How long the answer's body may take. Milliseconds. */
  readonly time: number;
}

export interface HttpBeginning {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
}

/**
 * POSTs. A body of the answer that breaks off, is too long or takes too long is cut there: the status decides.
 * @param signal of this request alone: nothing stops listening to it
 * @param onStart called when the connection is there and the request is about to be written
 * @param onStatus called when the answer begins
 * @throws what ended the connection before the answer's status came, or the signal's reason
 */
export async function postHttp(
  dispatcher: Dispatcher,
  request: HttpRequest,
  limits: HttpAnswerLimits,
  signal: AbortSignal,
  onStart: () => void,
  onStatus: () => void,
): Promise<HttpBeginning> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<HttpBeginning>();
  const exchange = new Exchange(limits, { onStart, onStatus, resolve, reject });
  signal.addEventListener('abort', () => exchange.stop(signal.reason), { once: true });
  dispatcher.dispatch({ ...request, method: 'POST' }, exchange);
  return promise;
}

interface Listeners {
  readonly onStart: () => void;
  readonly onStatus: () => void;
  readonly resolve: (answer: HttpBeginning) => void;
  readonly reject: (reason: unknown) => void;
}

class Exchange implements Dispatcher.DispatchHandler {
  readonly #limits: HttpAnswerLimits;
  readonly #tell: Listeners;
  #controller: Dispatcher.DispatchController | undefined;
  #stopped: { readonly reason: unknown } | undefined;
  #status = 0;
  #headers: Headers = {};
  #chunks: Buffer[] = [];
  #size = 0;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(limits: HttpAnswerLimits, tell: Listeners) {
    this.#limits = limits;
    this.#tell = tell;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#stopped) controller.abort(asError(this.#stopped.reason));
    else this.#tell.onStart();
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Headers): void {
    // 1xx only announces an answer.
    if (status < 200) return;
    this.#status = status;
    this.#headers = headers;
    this.#tell.onStatus();
    // Nearly every answer ends with what it begins with: only for others time is taken.
    void Promise.resolve().then(() => {
      if (!this.#isOver) this.#timer = setTimeout(() => this.#cut(), this.#limits.time);
    });
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#size += chunk.length;
    this.#chunks.push(chunk);
    if (this.#size > this.#limits.octets) this.#cut();
  }

  onResponseEnd(): void {
    this.#answer();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#status > 0) this.#answer();
    else this.#fail(this.#stopped ? this.#stopped.reason : error);
  }

  /** Ends it, wherever it is. A request that waits for its connection is not written any more when that comes. */
  stop(reason: unknown): void {
    if (this.#isOver) return;
    this.#stopped = { reason };
    if (this.#status > 0) this.#answer();
    else this.#fail(reason);
    this.#controller?.abort(asError(reason));
  }

  #cut(): void {
    this.#answer();
    this.#controller?.abort(new Error('the answer is too long, or takes too long'));
  }

  #answer(): void {
    this.#end();
    const [only] = this.#chunks;
    const body = only && this.#chunks.length === 1 ? only : Buffer.concat(this.#chunks);
    this.#tell.resolve({ status: this.#status, headers: this.#headers, body });
  }

  #fail(reason: unknown): void {
    this.#end();
    this.#tell.reject(reason);
  }

  #end(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error('stopped');
}
