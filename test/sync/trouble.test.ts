// From a failure as it is thrown to the time of the next try: what the failure carries must reach the policy.

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Failure } from '../../src/failure.ts';
import { Pop3Error } from '../../src/pop3/error.ts';
import { troubleOf } from '../../src/sync/trouble.ts';

const NOW = 1_000_000;
const early = { kind: 'refused', responseCode: 'LOGIN-DELAY', server: 'pop.example:995' } as const;

suite('the trouble that a failure means', () => {
  test('a login refused as too early waits for as long as the server announced before the login', () => {
    const failure = new Pop3Error('too early', { ...early, loginDelay: 900 });
    assert.equal(troubleOf(failure, 1, NOW, 0).until, NOW + 900_000);
    assert.equal(troubleOf(failure, 1, NOW, 0, { loginDelay: 1800 }).until, NOW + 1_800_000);
    assert.equal(troubleOf(new Pop3Error('too early', early), 1, NOW, 0).until, NOW + 60_000);
  });

  test('the time since when is that of the first failure of its kind', () => {
    const failure = new Failure('gone', { scope: 'account', code: 'pop3.connect', remedy: 'see to it' });
    const before = troubleOf(failure, 1, NOW, 0.5);
    assert.deepEqual([before.code, before.remedy, before.since], ['pop3.connect', 'see to it', NOW]);
    assert.equal(troubleOf(failure, 2, NOW + 5000, 0.5, { before }).since, NOW);
    const other = new Failure('gone', { scope: 'account', code: 'pop3.tls' });
    assert.equal(troubleOf(other, 2, NOW + 5000, 0.5, { before }).since, NOW + 5000);
  });
});
