import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startHttpSink } from '../support/http-sink.ts';
import { assertNoLeaks } from '../support/leaks.ts';
import { startSmtpSink } from '../support/smtp-sink.ts';

assertNoLeaks();

interface Report {
  readonly kind: string;
  readonly said: string;
  readonly sha256: string;
  readonly before: number;
  readonly peak: number;
  readonly milliseconds: number;
}

const run = promisify(execFile);
const MB = 1_000_000;

async function send(kind: string, place: string): Promise<Report> {
  const script = join(import.meta.dirname, 'huge-sender.ts');
  const { stdout } = await run(process.execPath, [script, kind, place], { timeout: 60_000 });
  return JSON.parse(stdout) as Report;
}

test('200 MB by SMTP cost little memory', { timeout: 60_000 }, async (t) => {
  await using sink = await startSmtpSink();
  const report = await send('smtp', String(sink.port));
  t.diagnostic(JSON.stringify(report));
  assert.equal(report.kind, 'confirmed', report.said);
  assert.equal(sink.messages[0]?.sha256BelowTrace, report.sha256);
  assert.ok(report.peak - report.before < 60 * MB, `${String(report.peak - report.before)} octets`);
});

test('200 MB by webhook cost little memory', { timeout: 60_000 }, async (t) => {
  await using sink = await startHttpSink({ secret: `whsec_${Buffer.alloc(32, 7).toString('base64')}` });
  const report = await send('webhook', sink.url);
  t.diagnostic(JSON.stringify(report));
  assert.equal(report.kind, 'confirmed', report.said);
  assert.equal(sink.requests[0]?.sha256, report.sha256);
  assert.equal(sink.requests[0].signature, 'right');
  assert.ok(report.peak - report.before < 60 * MB, `${String(report.peak - report.before)} octets`);
});
