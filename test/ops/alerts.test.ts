// What is said to a person, and when: the rules as examples, and as properties over whole histories.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { simpleParser } from 'mailparser';
import { QUIET, whatToSay } from '../../src/ops/alerts.ts';
import type { Facts, Said } from '../../src/ops/alerts.ts';
import { alertOf, messageOf } from '../../src/ops/alerts-message.ts';

const MINUTE = 60_000;
const AFTER = 30 * MINUTE;
const NOW = 1_800_000_000_000;

interface Stand {
  readonly code?: string;
  readonly needsPerson?: boolean;
  readonly quarantined?: number;
  readonly paused?: boolean;
  readonly gone?: boolean;
  readonly since?: number;
}

function facts({ code, needsPerson = true, quarantined = 0, paused = false, gone = false, since = NOW }: Stand): Facts {
  const trouble = { code: code ?? '', message: 'login refused', remedy: 'Check it.', since, until: 0, needsPerson };
  return {
    accounts: [{ name: 'isp', trouble: code === undefined ? undefined : trouble, quarantined }],
    destinations: [
      { name: 'inbox', pausedSince: paused || gone ? since : 0, isGone: gone, needsPerson: gone, said: 'HTTP 410' },
    ],
  };
}

/** Says what there is to say at each step; what was said, as text. */
function history(steps: readonly (readonly [minute: number, stand: Stand])[]): string[] {
  let said: ReadonlyMap<string, Said> = new Map();
  return steps.map(([minute, stand]) => {
    const saying = whatToSay(facts(stand), said, AFTER, NOW + minute * MINUTE);
    ({ said } = saying);
    const words = [...saying.wrong.map(({ subject }) => subject), ...saying.over.map(({ title }) => title)];
    return words.join('; ');
  });
}

describe('what is said', () => {
  test('trouble that may pass is told when it has lasted, once; and that it is over', () => {
    const bad = { code: 'pop3.auth' };
    assert.deepEqual(
      history([
        [0, bad],
        [29, bad],
        [30, bad],
        [31, bad],
        [500, bad],
        [501, {}],
        [502, {}],
      ]),
      ['', '', 'account isp trouble', '', '', 'account isp: works again', ''],
    );
  });

  test('trouble that needs nobody, and what passed before its time, is not told', () => {
    assert.deepEqual(
      history([
        [40, { code: 'pop3.connect', needsPerson: false }],
        [41, {}],
      ]),
      ['', ''],
    );
  });

  test('quarantine, a lost ledger and a destination that is gone are told at once', () => {
    assert.deepEqual(
      history([
        [0, { quarantined: 1 }],
        [1, { quarantined: 1, code: 'ledger.lost' }],
        [2, { quarantined: 1, code: 'ledger.lost', gone: true }],
      ]),
      ['account isp quarantine', 'account isp trouble', 'destination inbox pause'],
    );
  });

  test('what comes up together is one alert', () => {
    assert.deepEqual(history([[30, { quarantined: 2, code: 'pop3.auth', paused: true }]]), [
      'account isp trouble; account isp quarantine; destination inbox pause',
    ]);
  });

  test('a quarantine that grows is told again, an hour later at the soonest', () => {
    assert.deepEqual(
      history([
        [0, { quarantined: 1 }],
        [1, { quarantined: 500 }],
        [59, { quarantined: 900 }],
        [60, { quarantined: 900 }],
        [200, { quarantined: 900 }],
        [300, { quarantined: 3 }],
        [301, {}],
      ]),
      [
        'account isp quarantine',
        '',
        '',
        'account isp quarantine',
        '',
        '',
        'account isp: no mail needs a person any more',
      ],
    );
  });

  test('what comes and goes is told once an hour', () => {
    assert.deepEqual(
      history([
        [0, { quarantined: 1 }],
        [1, {}],
        [2, { quarantined: 1 }],
        [3, {}],
        [61, { quarantined: 1 }],
      ]),
      ['account isp quarantine', 'account isp: no mail needs a person any more', '', '', 'account isp quarantine'],
    );
  });

  test('what left the config is not said to work again', () => {
    const said = new Map([['account old trouble', { at: NOW, over: 0, size: 0 }]]);
    const saying = whatToSay(facts({}), said, AFTER, NOW + 1);
    assert.deepEqual([saying.over, saying.said.size], [[], 0]);
  });

  test('over any history: at most one an hour and subject, and "over" only after "wrong", once', () => {
    const stand = fc.record(
      {
        code: fc.constantFrom('pop3.auth', 'ledger.lost'),
        quarantined: fc.nat(3),
        gone: fc.boolean(),
        paused: fc.boolean(),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(40), stand), { maxLength: 40 }), (steps) => {
        let said: ReadonlyMap<string, Said> = new Map();
        let now = NOW;
        const told = new Map<string, number>();
        const open = new Set<string>();
        for (const [minutes, each] of steps) {
          now += minutes * MINUTE;
          const saying = whatToSay(facts(each), said, AFTER, now);
          ({ said } = saying);
          for (const { subject } of saying.wrong) {
            assert.ok(now - (told.get(subject) ?? 0) >= QUIET, subject);
            told.set(subject, now);
            open.add(subject);
          }
          for (const { subject } of saying.over) assert.ok(open.delete(subject), subject);
          assert.ok(said.size <= 3);
        }
      }),
    );
  });
});

describe('an alert', () => {
  const notice = {
    subject: 'account isp trouble',
    title: 'account isp: login refused',
    remedy: 'Check it.',
    since: NOW,
  };

  test('is a well-formed message that no program answers', async () => {
    const alert = alertOf({ wrong: [notice], over: [] }, 'host', NOW);
    const octets = messageOf(alert, 'ferry@example.com', ['me@example.com', 'you@example.com'], 'host');
    const text = octets.toString('latin1');
    assert.doesNotMatch(text, /[^\r]\n|\r[^\n]|[^\r\n\u0020-\u007e]/);
    const mail = await simpleParser(octets);
    assert.equal(mail.subject, '[mailferry] account isp needs a person');
    assert.equal(mail.from?.value[0]?.address, 'ferry@example.com');
    assert.deepEqual(
      [mail.to].flat().flatMap((each) => each?.value.map(({ address }) => address) ?? []),
      ['me@example.com', 'you@example.com'],
    );
    assert.equal(mail.date?.getTime(), NOW);
    assert.match(mail.messageId ?? '', /^<[0-9a-f]{32}@example\.com>$/);
    assert.equal(mail.headers.get('auto-submitted'), 'auto-generated');
    assert.match(mail.text ?? '', /login refused\n {2}since 2027-01-15 08:00 UTC\n {2}Check it\./);
  });

  test('carries the words of others whatever they are, in short lines', async () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 300 }), { minLength: 1, maxLength: 5 }), (titles) => {
        const wrong = titles.map((title) => ({ ...notice, title: title.replaceAll(/[\r\n]/g, ' ').toWellFormed() }));
        const text = messageOf(alertOf({ wrong, over: [] }, 'host', NOW), 'a@b', [], 'host').toString('latin1');
        for (const line of text.split('\r\n')) assert.match(line, /^[\u0020-\u007e]{0,998}$/);
      }),
    );
    const wrong = [{ ...notice, title: 'account isp: Zugang gesperrt – bitte prüfen' }];
    const mail = await simpleParser(messageOf(alertOf({ wrong, over: [] }, 'host', NOW), 'a@b', [], 'host'));
    assert.match(mail.text ?? '', /Zugang gesperrt – bitte prüfen/);
  });

  test('with many names keeps its subject short', () => {
    const wrong = Array.from({ length: 50 }, (_, index) => ({
      ...notice,
      subject: `account ${'n'.repeat(60)}${index} trouble`,
    }));
    const { subject } = alertOf({ wrong, over: [{ ...notice, subject: 'destination hook pause' }] }, 'host', NOW);
    assert.match(subject, /and 49 more need a person; destination hook: over$/);
    assert.ok(subject.length < 200);
  });
});
