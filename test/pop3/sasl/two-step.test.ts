import assert from 'node:assert/strict';
import test, { suite } from 'node:test';
import * as fc from 'fast-check';
import { twoStep } from '../../../src/pop3/sasl/two-step.ts';

suite('two steps or one', () => {
  test('one only if the whole command has at most 255 octets', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('PLAIN', 'SCRAM-SHA-256', 'OAUTHBEARER', 'EXTERNAL'),
        fc.uint8Array({ maxLength: 400 }),
        (name, octets) => {
          const response = Buffer.from(octets);
          const command = `AUTH ${name} ${response.length === 0 ? '=' : response.toString('base64')}\r\n`;
          assert.equal(twoStep(name, response, true), command.length > 255);
        },
      ),
    );
    assert.equal(twoStep('PLAIN', Buffer.alloc(180), true), false); // 253 octets
    assert.equal(twoStep('PLAIN', Buffer.alloc(181), true), true); // 257
  });

  test('always two for XOAUTH2, and where the server lists no mechanisms', () => {
    assert.equal(twoStep('XOAUTH2', Buffer.from('x'), true), true);
    assert.equal(twoStep('PLAIN', Buffer.from('x'), false), true);
  });
});
