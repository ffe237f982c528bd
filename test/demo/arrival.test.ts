/** What counts as arrived, and what the demo's mail is made of. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { arrivalOf, verdictOn } from '../../src/demo/arrival.ts';
import { demoMail } from '../../src/demo/mail.ts';

const DATE = 'Thu, 01 Jan 2026 00:00:00 +0000';
const mail = demoMail(DATE);

describe('the verdict on a message', () => {
  const [one, other] = mail;
  assert.ok(one && other);
  const arrived = arrivalOf(one.octets);

  test('is "same" only for exactly these octets, once', () => {
    assert.equal(verdictOn(one, [arrivalOf(other.octets), arrived]), 'same');
    assert.equal(verdictOn(one, []), 'missing');
    assert.equal(verdictOn(one, [arrivalOf(other.octets)]), 'missing');
    assert.equal(verdictOn(one, [arrived, arrived]), 'repeated');
    const changed = arrivalOf(Buffer.concat([one.octets, Buffer.from('x')]));
    assert.equal(verdictOn(one, [changed]), 'changed');
    assert.equal(verdictOn(one, [arrived, changed]), 'changed');
  });
});

describe("the demo's mail", () => {
  test('is the same in every run, but for its date', () => {
    assert.deepEqual(demoMail(DATE), mail);
  });

  test('is of every kind, and such that SMTP may carry it unchanged', () => {
    assert.ok(mail.some(({ octets }) => octets.length > 1024 * 1024));
    assert.ok(mail.some(({ octets }) => octets.some((octet) => octet > 127)));
    assert.ok(mail.some(({ octets }) => octets.includes('\r\n.\r\n')));
    for (const atFirst of ['deferred', 'refused'])
      assert.ok(
        mail.some((message) => message.atFirst === atFirst),
        atFirst,
      );
    for (const { octets, title } of mail) {
      const text = octets.toString('latin1');
      assert.doesNotMatch(text, /\r(?!\n)|(?<!\r)\n/, title);
      assert.ok(text.endsWith('\r\n') && text.split('\r\n').every((line) => line.length <= 998), title);
    }
    assert.equal(new Set(mail.map(({ messageId }) => messageId)).size, mail.length);
  });
});
