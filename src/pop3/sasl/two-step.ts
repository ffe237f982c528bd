/** Whether the first response goes along with AUTH, or waits until the server asks for it (RFC 5034 §4). Pure. */

// RFC 2449 §4: a command with its CRLF. Longer ones are sent back, cut or held against us.
const LONGEST_COMMAND = 255;

/**
 * `true`: send `AUTH NAME` alone, and the response to the `+` that follows. An empty initial response is sent as `=`.
 * @param initialResponse octets before base64
 * @param listed whether the server lists its mechanisms: without a SASL capability it may not know initial responses
 */
export function twoStep(name: string, initialResponse: Buffer, listed: boolean): boolean {
  if (!listed) return true;
  if (name === 'XOAUTH2') return true; // Office 365 refuses it in one line, however short
  const base64 = Math.max(1, Math.ceil(initialResponse.length / 3) * 4);
  return `AUTH ${name} `.length + base64 + '\r\n'.length > LONGEST_COMMAND;
}
