import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { Redactor, revealed } from '../src/redact.ts';
import { printable, printableOctets } from '../src/untrusted.ts';

suite('text that others wrote', () => {
  test('nothing comes through that moves a cursor, starts a line, or is half a character', () => {
    const unit = fc.oneof(
      fc.constantFrom('\u001b', '\r', '\n', '\u0000', '\u2028', '\u202e', '\ud83d', '\udc00', '😀', 'ä'),
      fc.string({ maxLength: 1 }),
    );
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 50 }), fc.nat(30), (parts, limit) => {
        const text = printable(parts.join(''), limit);
        // oxlint-disable-next-line no-control-regex
        assert.doesNotMatch(text, /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/);
        assert.ok(text.isWellFormed());
        assert.ok(text.length <= (limit + 1) * 8);
      }),
    );
  });

  test('a secret that somebody repeats is replaced, also where the cut goes through it', () => {
    revealed.remember('open sesame 42');
    assert.equal(printable('535 5.7.8 not "open sesame 42"'), '535 5.7.8 not "[secret]"');
    assert(!printable(`${'x'.repeat(90)}open sesame 42`, 95).includes('open'));
    revealed.forget('open sesame 42');
  });

  test('octets are UTF-8 where they may be, also where the cut goes through a character', () => {
    assert.equal(printableOctets(Buffer.from('grüße')), 'grüße');
    assert.equal(printableOctets(Buffer.from('gr\u00fcn', 'latin1')), 'grün');
    assert.equal(printableOctets(Buffer.from(`a${'€'.repeat(500)}`), 100), `a${'€'.repeat(99)}…`);
    assert.equal(printableOctets(Buffer.from('\ufffd!')), '\ufffd!');
    assert.equal(printableOctets(Buffer.from([0x1b, 0x5b, 0x33])), '\\x1b[3');
  });
});

suite('secrets', () => {
  test('no secret comes through, in no form, beside whatever', () => {
    const secret = fc.string({ minLength: 4, maxLength: 20, unit: 'binary' });
    fc.assert(
      fc.property(
        fc.array(secret, { minLength: 1, maxLength: 3 }),
        fc.array(fc.string({ maxLength: 5 }), { minLength: 4, maxLength: 4 }),
        (secrets, between) => {
          const redactor = new Redactor();
          for (const each of secrets) redactor.remember(each);
          const [first = ''] = secrets;
          const forms = [
            first,
            JSON.stringify(first).slice(1, -1),
            encodeURIComponent(first.toWellFormed()),
            Buffer.from(first).toString('base64'),
          ];
          for (const [index, form] of forms.entries()) {
            const text = `${between[index]}|${form}|${between[index]}`;
            const clean = redactor.redact(text);
            if (form.length >= 4 && !'[secret]'.includes(form) && !`|${between[index]}${between[index]}`.includes(form))
              assert.ok(!clean.includes(`|${form}|`), clean);
          }
        },
      ),
    );
  });

  test('a short one is replaced where it stands alone, and leaves longer words as they are', () => {
    const redactor = new Redactor();
    redactor.remember('pass');
    redactor.remember('übel5');
    for (const text of ['password', 'compass', 'PASS', 'passé', 'trespassing', 'xübel5', 'pass1'])
      assert.equal(redactor.redact(text), text);
    for (const [text, clean] of [
      ['pass', '[secret]'],
      ['not "pass", jane', 'not "[secret]", jane'],
      ['password=pass passes', 'password=[secret] passes'],
      [String.raw`line\npass\r\n`, String.raw`line\n[secret]\r\n`],
      [String.raw`\x1bpass\x1b \u2028pass`, String.raw`\x1b[secret]\x1b \u2028[secret]`],
      ['jane%3Apass%40host', 'jane%3A[secret]%40host'],
      ['_pass_ übel5', '_[secret]_ [secret]'],
      [`xx${Buffer.from('pass').toString('base64')}`, 'xx[secret]'],
    ] as const)
      assert.equal(redactor.redact(text), clean);
    redactor.remember('passed');
    assert.equal(redactor.redact('unpassed pass'), 'un[secret] [secret]');
  });

  test('half a character in a secret breaks nothing', () => {
    const redactor = new Redactor();
    redactor.remember('abc\ud800def');
    assert.equal(redactor.redact('x abc\ud800def y'), 'x [secret] y');
    assert.equal(redactor.redact('nothing here'), 'nothing here');
  });
});
