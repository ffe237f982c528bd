/** What an account logs in with, and how: which of password, token and certificate go with which mechanism. Pure. */

import type { AccountOptions } from './account.ts';
import { wrong } from './finding.ts';
import type { Finding } from './finding.ts';

type Credentials = Partial<Pick<AccountOptions, 'password' | 'accessToken' | 'mechanism' | 'certFile' | 'security'>>;

const FIELDS = ['password', 'accessToken', 'mechanism', 'certFile', 'security'];

/**
 * What is wrong between the fields of a login, each said once and at the field to change.
 * @param told fields that have been found wrong already: what goes with them is not known
 */
export function credentialFindings(options: Credentials, told: ReadonlySet<string>): Finding[] {
  if (FIELDS.some((field) => told.has(field))) return [];
  const { password, accessToken, mechanism, certFile, security } = options;
  const hasPassword = password !== undefined;
  const hasToken = accessToken !== undefined;
  if (mechanism === 'external') return externalFindings(options);
  if (hasPassword && hasToken) {
    return [wrong(['accessToken'], 'stands beside `password`', 'keep one of them: a login is made with either')];
  }
  const isOAuth = mechanism === 'xoauth2' || mechanism === 'oauthbearer';
  if (isOAuth && !hasToken) {
    const remedy = `\`mechanism: ${mechanism}\` logs in with an OAuth 2.0 access token and no password; write { file: PATH } or { command: [PROGRAM, ARG] }`;
    return [wrong(['accessToken'], 'is missing', remedy)];
  }
  if (hasToken) {
    if (mechanism !== undefined && !isOAuth) {
      const remedy = 'write xoauth2 or oauthbearer, or leave it out';
      return [wrong(['mechanism'], `cannot log in with an \`accessToken\``, remedy)];
    }
    // RFC 7628 §3: whoever sees a token has it
    if (security === 'none') {
      return [wrong(['security'], 'would show the `accessToken` to everybody on the way', 'use tls or starttls')];
    }
    return [];
  }
  if (hasPassword) return [];
  const remedy =
    certFile === undefined
      ? 'write { env: NAME }, { file: PATH }, { command: [PROGRAM, ARG] }, or text in quotes'
      : 'write it, or `mechanism: external` if the certificate in `certFile` is all that the server wants';
  return [wrong(['password'], 'is missing', remedy)];
}

/** RFC 4422 appendix A: the certificate alone says who it is. */
function externalFindings({ password, accessToken, certFile, security }: Credentials): Finding[] {
  const findings: Finding[] = [];
  for (const [field, value] of Object.entries({ password, accessToken })) {
    if (value === undefined) continue;
    findings.push(wrong([field], 'is not used with `mechanism: external`', 'remove it, or the mechanism'));
  }
  if (certFile === undefined) {
    const remedy = '`mechanism: external` logs in with a client certificate: write `certFile` and `keyFile`';
    findings.push(wrong(['certFile'], 'is missing', remedy));
  }
  if (security === 'none') {
    const remedy = 'use tls or starttls: `mechanism: external` logs in with the certificate of the TLS connection';
    findings.push(wrong(['security'], 'has no client certificate', remedy));
  }
  return findings;
}
