import { NO_USABLE_FAMILY } from './tcp-connect.ts'
import type { TransportErrorCode } from './transport.ts'

/** Why an exchange failed, before it becomes a result. The message holds no secret and nothing that a receiver sent. */
export class TransportFailure extends Error {
  override readonly name = 'TransportFailure'
  readonly code: TransportErrorCode

  constructor(code: TransportErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

/** The `code` of a Node error: an identifier of its own, never a text of the receiver's. */
export function errorCodeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : 'UNKNOWN'
}

/** What a socket reports about a connection that was open, in our terms. */
export function classifySocketError(error: unknown): TransportFailure {
  const code = errorCodeOf(error)
  if (isTlsCode(code)) return new TransportFailure('TLS_FAILED', `The receiver ended the TLS connection (${code}).`)
  return new TransportFailure('CONNECTION_RESET', `The connection was lost before an answer (${code}).`)
}

const CERTIFICATE_CODES = new Set([
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REVOKED',
  'CERT_REJECTED',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'HOSTNAME_MISMATCH',
])

function isTlsCode(code: string): boolean {
  return code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_') || code === 'EPROTO' || CERTIFICATE_CODES.has(code)
}

/** A handshake that failed, whatever the code. */
export function tlsFailure(error: unknown): TransportFailure {
  const code = errorCodeOf(error)
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return new TransportFailure('TLS_FAILED', `The receiver's certificate is for another host name (${code}).`)
  if (CERTIFICATE_CODES.has(code))
    return new TransportFailure('TLS_FAILED', `The receiver's certificate is not trusted (${code}).`)
  return new TransportFailure('TLS_FAILED', `The TLS handshake with the receiver failed (${code}).`)
}

/** No connection to the receiver was opened. */
export function connectFailure(error: unknown, fromSourceAddress: boolean): TransportFailure {
  const code = errorCodeOf(error)
  if (fromSourceAddress && (code === 'EADDRNOTAVAIL' || code === NO_USABLE_FAMILY)) return sourceAddressFailure(code)
  return code === 'ETIMEDOUT'
    ? new TransportFailure('CONNECT_TIMEOUT', `No connection could be opened in time (${code}).`)
    : new TransportFailure('CONNECT_FAILED', `No connection could be opened (${code}).`)
}

/** No connection to the proxy was opened, or it was lost before the proxy answered. */
export function proxyConnectFailure(error: unknown, fromSourceAddress: boolean): TransportFailure {
  if (error instanceof TransportFailure) return error
  const code = errorCodeOf(error)
  if (fromSourceAddress && (code === 'EADDRNOTAVAIL' || code === NO_USABLE_FAMILY)) return sourceAddressFailure(code)
  return new TransportFailure('PROXY_FAILED', `No connection to the proxy could be opened (${code}).`)
}

function sourceAddressFailure(code: string): TransportFailure {
  return new TransportFailure(
    'SOURCE_ADDRESS_FAILED',
    code === NO_USABLE_FAMILY
      ? 'The receiver has no address of the family of http.localAddress: give one of each family.'
      : `No connection could begin at http.localAddress (${code}): is it an address of this machine?`,
  )
}
