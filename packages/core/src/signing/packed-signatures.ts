/**
 * The signatures of an attempt as the log keeps them: a byte with the number of `v1` ones, the body's (32 bytes, only in the
 * `posthaste` envelope), the header's (32), then those of `webhook-signature` in order (`v1` 32 bytes, `v1a` 64).
 */
import type { Envelope } from './sign.ts'

/** Of `X-Webhook-Signature` and of the body's `signature`. */
const PREFIX = 'sha256='
const HMAC_BYTES = 32
const ED25519_BYTES = 64

/** The length of `v1,` and the base64 of 32 bytes. */
const ONE_HMAC = 47
const scratch = Buffer.alloc(ED25519_BYTES)

function hexOf(text: string, from: number): string {
  return scratch.toString('hex', 0, scratch.write(text.slice(from), 'base64'))
}

/** As hex. */
export function packSignatures(envelope: Envelope, body: Buffer, header: string, standard: string): string {
  const inBody = envelope === 'posthaste' ? body.toString('latin1', body.length - 66, body.length - 2) : ''
  // One secret and no other key: as nearly all are.
  if (standard.length === ONE_HMAC) return `01${inBody}${header.slice(PREFIX.length)}${hexOf(standard, 3)}`
  let count = 0
  let rest = ''
  for (const part of standard.split(' ')) {
    const comma = part.indexOf(',')
    if (comma === 2) count++
    rest += hexOf(part, comma + 1)
  }
  return count.toString(16).padStart(2, '0') + inBody + header.slice(PREFIX.length) + rest
}

export interface UnpackedSignatures {
  /** The hex digits of the body's `signature`; null in the `standard` envelope. */
  body: string | null
  /** The value of `X-Webhook-Signature`. */
  header: string
  /** The value of `webhook-signature`. */
  standard: string
}

/** @param hex as `packSignatures` made it */
export function unpackSignatures(envelope: Envelope, hex: string): UnpackedSignatures {
  const bytes = Buffer.from(hex, 'hex')
  const hmacs = bytes[0] ?? 0
  let at = 1
  const take = (length: number) => {
    at += length
    return bytes.subarray(at - length, at)
  }
  const body = envelope === 'posthaste' ? take(HMAC_BYTES).toString('hex') : null
  const header = PREFIX + take(HMAC_BYTES).toString('hex')
  const standard: string[] = []
  for (let n = 0; n < hmacs; n++) standard.push(`v1,${take(HMAC_BYTES).toString('base64')}`)
  while (at < bytes.length) standard.push(`v1a,${take(ED25519_BYTES).toString('base64')}`)
  return { body, header, standard: standard.join(' ') }
}
