/**
 * What a SASL mechanism is to the client (RFC 4422): a machine that turns challenges into responses. No sockets, no
 * base64, no command lines here, and no mechanism ever puts a secret into an error or a detail.
 */

export interface Mechanism {
  /** As on the wire: `SCRAM-SHA-256`. */
  readonly name: string;
  /** The client speaks first: the first call of `respond` takes an empty challenge, real or implied. */
  readonly hasInitialResponse: boolean;
  /**
   * The next response to a challenge, both as decoded octets. Throws a `Failure` if the server does not keep to the
   * mechanism or does not prove itself; the exchange must then be cancelled with `*` (RFC 5034 §4).
   */
  respond(challenge: Buffer): Buffer | Promise<Buffer>;
  /** Asked after `+OK`: `false` means that the server did not prove itself (SCRAM), so nothing it says may be used. */
  verified?(): boolean;
  /** Asked after `-ERR`: what the server said in an error challenge, printable and free of secrets. */
  failureDetail?(): string | undefined;
}
