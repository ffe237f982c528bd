import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { decodeTrailEvent, describeTrailEvent, encodeTrailEvent } from '../../src/sync/trail.ts';
import type { TrailEvent } from '../../src/sync/trail.ts';
import { printable } from '../../src/untrusted.ts';

const EVENTS: readonly TrailEvent[] = [
  { at: 1, uniqueId: 'u', event: 'seen', size: -1 },
  { at: 1, uniqueId: 'u', event: 'retrieved', octets: 3, sha256: 'ab' },
  { at: 1, uniqueId: 'u', event: 'retrievalFailed', said: 'no' },
  { at: 1, uniqueId: 'u', event: 'delivered', destination: 'd', said: '250 ok', attempt: 1 },
  { at: 1, uniqueId: 'u', event: 'deferred', destination: 'd', said: '451', attempt: 2 },
  { at: 1, uniqueId: 'u', event: 'rejected', destination: 'd', said: '554', attempt: 3 },
  { at: 1, uniqueId: 'u', event: 'inDoubt', destination: 'd', said: 'cut', attempt: 1 },
  { at: 1, uniqueId: 'u', event: 'quarantined', reason: 'too large' },
  { at: 1, uniqueId: 'u', event: 'retried', by: 'person' },
  { at: 1, uniqueId: 'u', event: 'discarded', by: 'person' },
  { at: 1, uniqueId: 'u', event: 'redirected', destination: 'e', by: 'person' },
  { at: 1, uniqueId: 'u', event: 'renamed', from: 'u', to: 'v' },
  { at: 1, uniqueId: 'u', event: 'renamed', from: 't', to: 'u' },
  { at: 1, uniqueId: 'u', event: 'deleted' },
  { at: 1, uniqueId: 'u', event: 'vanished' },
];

suite('the audit trail', () => {
  test('comes back as it was written, whatever the words', () => {
    fc.assert(
      fc.property(fc.constantFrom(...EVENTS), fc.string(), fc.string(), (event, uniqueId, said) => {
        const one = { ...event, uniqueId, ...('said' in event ? { said } : {}) } as TrailEvent;
        const shown = { ...one, ...('said' in event ? { said: printable(said) } : {}) } as TrailEvent;
        const back = decodeTrailEvent(encodeTrailEvent(one));
        assert.deepEqual(back, shown);
        assert.deepEqual(decodeTrailEvent(encodeTrailEvent(shown)), shown, 'what is printable stays as it is');
        if ('said' in shown) assert(describeTrailEvent(shown).includes(shown.said));
      }),
    );
    assert.equal(new Set(EVENTS.map(describeTrailEvent)).size, EVENTS.length, 'each says something of its own');
  });

  test('what is none of ours is passed over', () => {
    fc.assert(fc.property(fc.string(), (text) => assert.equal(decodeTrailEvent(text), undefined)));
    assert.equal(decodeTrailEvent('{"at":1,"uniqueId":"u"}'), undefined);
  });
});
