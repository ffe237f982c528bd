import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { decoded, fitsPattern, routedTo } from '../../src/sync/route.ts';
import type { Route, RouteCondition } from '../../src/sync/route.ts';

const NOTHING: RouteCondition = {
  from: [],
  to: [],
  subject: [],
  header: {},
  largerThan: undefined,
  smallerThan: undefined,
};

function route(when: Partial<RouteCondition> | undefined, to: string[], otherwise: string[] = []): Route {
  return { when: when && { ...NOTHING, ...when }, to, otherwise };
}

function header(...lines: string[]): Buffer {
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

suite('rules of deliverTo', () => {
  test('a sender is who the address says, not the name or a comment beside it', () => {
    const goes = (...from: string[]): string[] =>
      routedTo(
        [route({ from: ['*@shop.example'] }, ['in'], ['out'])],
        header(...from.map((each) => `From: ${each}`)),
        1,
      );
    for (const forged of [
      '"boss@shop.example" <evil@bad.example>',
      'boss@shop.example <evil@bad.example>',
      'evil@bad.example (boss@shop.example)',
    ])
      assert.deepEqual(goes(forged), ['out'], forged);
    for (const real of ['"jane doe"@shop.example', 'x@bad.example, Jane <jane@SHOP.example>', '<jane@shop.example>'])
      assert.deepEqual(goes(real), ['in'], real);
  });

  test('a hostile field costs no more than its length', () => {
    for (const unit of ['a', '"', '(', '<', '@', 'a@b,', 'g:', '=?', ' '])
      for (const field of ['From', 'To', 'Subject'])
        routedTo(
          [route({ from: ['*@x'], to: ['*@y'], subject: ['*a*b*c*'] }, ['in'])],
          header(`${field}: ${unit.repeat(250_000 / unit.length)}`),
          1,
        );
  });

  const mail = header(
    'From: "Shop, Inc." <Orders@Shop.example>',
    'To: jane@isp.example, club@isp.example',
    'Subject: =?utf-8?Q?Ihre_Bestellung_f=C3=BCr?= =?utf-8?B?IEvDvGNoZQ==?=',
    'List-Id: <news.shop.example>',
  );
  const cases: [string, Partial<RouteCondition>, boolean][] = [
    ['sender', { from: ['*@shop.example'] }, true],
    ['another sender', { from: ['*@other.example'] }, false],
    ['one of several', { from: ['*@other.example', 'orders@*'] }, true],
    ['recipient', { to: ['club@isp.example'] }, true],
    ['a part is no match', { to: ['club'] }, false],
    ['decoded subject, encoded words joined', { subject: ['ihre bestellung für küche'] }, true],
    ['header', { header: { 'list-id': ['*news*'] } }, true],
    ['a header that is not there', { header: { 'X-Spam': ['*'] } }, false],
    ['larger', { largerThan: 999 }, true],
    ['not larger', { largerThan: 1000 }, false],
    ['smaller', { smallerThan: 1001 }, true],
    ['all must fit', { from: ['*@shop.example'], smallerThan: 10 }, false],
  ];
  for (const [name, when, fits] of cases) {
    test(name, () => assert.deepEqual(routedTo([route(when, ['a'], ['b'])], mail, 1000), [fits ? 'a' : 'b']));
  }

  test('names of several rules add up, each once', () => {
    const routes = [
      route({ from: ['*@shop.example'] }, ['a']),
      route(undefined, ['b', 'a']),
      route({ to: ['nobody@*'] }, ['c']),
    ];
    assert.deepEqual(routedTo(routes, mail, 1), ['a', 'b']);
  });

  test('no rule fits', () => assert.deepEqual(routedTo([route({ from: ['x'] }, ['a'])], mail, 1), []));

  test('a mail without a header fits nothing but size', () => {
    assert.deepEqual(routedTo([route({ subject: ['*'] }, ['a'], ['b'])], Buffer.alloc(0), 1), ['a']);
    assert.deepEqual(routedTo([route({ from: ['*'] }, ['a'], ['b'])], Buffer.alloc(0), 1), ['b']);
  });
});

suite('patterns', () => {
  test('are what their regular expression is', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '.'), maxLength: 8 });
    fc.assert(
      fc.property(letters, fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 10 }), (pattern, text) => {
        const regex = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*').replaceAll('?', '.')}$`, 's');
        assert.equal(fitsPattern(pattern, text), regex.test(text));
      }),
    );
  });

  test('a hostile subject takes no time', () => {
    assert.equal(fitsPattern('*a*a*a*a*a*a*a*a*a*a*b', 'a'.repeat(5000)), false);
  });

  test('words in a charset that nobody knows stay as they are', () => {
    assert.equal(decoded('=?x-unknown?Q?abc?='), '=?x-unknown?Q?abc?=');
    assert.equal(decoded('gr\u00c3\u00bc\u00c3\u009fe'), 'grüße');
    assert.equal(decoded('gr\u00fc'), 'grü');
  });
});
