/** What a failed poll makes of an account: when it is tried next, and what a person is told meanwhile. Pure. */

import type { Failure } from '../failure.ts';
import type { Trouble } from './account.ts';
import { afterSession } from './retry.ts';
import type { SessionFailure } from './retry.ts';

/**
 * The trouble an account is in.
 * @param failures failed sessions in a row, this one included
 * @param now milliseconds since 1970
 * @param random in [0, 1)
 * @param more the trouble it was in before, and the LOGIN-DELAY of the session in seconds; a refused login has its own
 */
export function troubleOf(
  failure: Failure,
  failures: number,
  now: number,
  random: number,
  more: { readonly before?: Trouble | undefined; readonly loginDelay?: number | undefined } = {},
): Trouble {
  const facts: SessionFailure = {
    kind: 'other',
    permanent: failure.permanent,
    ...('kind' in failure ? { kind: failure.kind as SessionFailure['kind'] } : {}),
    ...('responseCode' in failure ? { responseCode: failure.responseCode as string | undefined } : {}),
    loginDelay: more.loginDelay ?? ('loginDelay' in failure ? (failure.loginDelay as number | undefined) : undefined),
  };
  return {
    ...afterSession(facts, failures, now, random),
    code: failure.code,
    message: failure.message,
    remedy: failure.remedy ?? '',
    since: more.before?.code === failure.code ? more.before.since : now,
  };
}
