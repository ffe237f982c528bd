/**
 * The one error type that crosses folders. It carries what an operator needs and what the failure policy decides by:
 * scope and permanence. Nobody but the policy (`sync/retry.ts`) decides what is tried again; unknown means temporary.
 */

/** What a failure stops: one message, one destination, one account, or the whole process. */
export type Scope = 'message' | 'destination' | 'account' | 'process';

export interface FailureDetails {
  readonly scope: Scope;
  /** `true` only if trying again unchanged cannot help. */
  readonly permanent?: boolean;
  /** Stable, for logs and tests: `pop3.auth`, `smtp.connect`. */
  readonly code: string;
  /** The server spoken to, as `host:port`. */
  readonly server?: string;
  /** The server's own words, already cut and escaped (`untrusted.ts`). */
  readonly said?: string;
  /** What the operator can do about it: a sentence, or nothing if there is nothing to do. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/** An expected failure: the world misbehaved, not this program. Anything else that is thrown is a bug. */
export class Failure extends Error {
  override readonly name: string = 'Failure';
  readonly scope: Scope;
  readonly permanent: boolean;
  readonly code: string;
  readonly server: string | undefined;
  readonly said: string | undefined;
  readonly remedy: string | undefined;

  constructor(message: string, details: FailureDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.scope = details.scope;
    this.permanent = details.permanent ?? false;
    this.code = details.code;
    this.server = details.server;
    this.said = details.said;
    this.remedy = details.remedy;
  }
}

/** The message of whatever was thrown. */
export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
