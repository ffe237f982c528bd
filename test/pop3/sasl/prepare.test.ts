import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import * as fc from 'fast-check';
import { preparePassword, prepareUser } from '../../../src/pop3/sasl/prepare.ts';

// any code point; fast-check's own unit for it takes a second to set up
const character = fc.integer({ min: 0, max: 0x10ffff }).map((point) => String.fromCodePoint(point));

suite('SASLprep', () => {
  test('the examples of RFC 4013 §3', () => {
    assert.equal(prepareUser('I\u00adX'), 'IX'); // soft hyphen mapped to nothing
    assert.equal(prepareUser('user'), 'user');
    assert.equal(prepareUser('USER'), 'USER');
    assert.equal(prepareUser('\u00aa'), 'a'); // NFKC
    assert.equal(prepareUser('\u2168'), 'IX');
    assert.throws(() => prepareUser('\u0007'), { code: 'pop3.credentials' }); // prohibited
    assert.throws(() => prepareUser('\u06271'), { code: 'pop3.credentials' }); // directions mixed
  });

  test('a user name of which nothing is left is refused, and not shown', () => {
    assert.throws(() => prepareUser('\u00ad'), { code: 'pop3.credentials' });
    assert.throws(
      () => prepareUser('geheim\u0000'),
      (error: Error) => !error.message.includes('geheim'),
    );
  });

  test('a password is prepared where it can be, else used as it is', () => {
    assert.equal(preparePassword('a\u00a0b'), 'a b'); // another kind of space
    assert.equal(preparePassword('e\u0301'), '\u00e9');
    assert.equal(preparePassword('\u{1fae0} melting'), '\u{1fae0} melting'); // newer than Unicode 3.2
    assert.equal(preparePassword('\u05e9\u05dc\u05d5\u05dd123'), '\u05e9\u05dc\u05d5\u05dd123');
    assert.equal(preparePassword('\u00ad'), '\u00ad');
    assert.equal(preparePassword('\u00e9'.repeat(1_000_000)).length, 1_000_000);
  });

  test('leaves ASCII alone, and is done when done', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-ascii' }), (text) => {
        assert.equal(preparePassword(text), text);
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: character }), (text) => {
        const once = preparePassword(text);
        assert.equal(preparePassword(once), once);
      }),
    );
  });
});
