/**
 * The exact bytes of a request's body and the signatures over them. Everything is signed as bytes; nothing is parsed or
 * written a second time.
 */
import { sign as edSign, type KeyObject } from 'node:crypto'
import { PosthasteError } from '../errors.ts'
import { HmacKey } from './hmac-key.ts'
import { keyBytes, rawKeyBytes } from './signing-secret.ts'

/** `posthaste`: `{"event","timestamp","data","signature"}`; `standard`: `{"type","timestamp","data"}` of Standard Webhooks. */
export type Envelope = 'posthaste' | 'standard'

/** A secret with its keys prepared, to be kept as long as the secret is. */
export interface Signer {
  /** For `X-Webhook-Signature` and the body's `signature`. */
  readonly rawKey: HmacKey
  /** For `webhook-signature`. The same object as `rawKey` where the bytes are the same. */
  readonly standardKey: HmacKey
}

export interface BodyParts {
  envelope: Envelope
  /** The event type name. */
  type: string
  /** When the event occurred, in ms since 1970. Written as Unix seconds, or as RFC 3339 in the `standard` envelope. */
  occurredAtMs: number
  /** `data` as the JSON text that was stored; it goes into the body as it is. */
  dataText: string
  /** Makes the body's `signature`; not used by the `standard` envelope, which has none. */
  signer: Signer
}

/** `,"signature":"sha256=` + 64 hex digits + `"}`: what a body ends with. Its length is fixed so that it can be cut out. */
const SIGNATURE_MEMBER_START = ',"signature":"sha256='
const SIGNATURE_SUFFIX_LENGTH = SIGNATURE_MEMBER_START.length + 64 + 2

const CLOSING_BRACE = 0x7d

/** Prepares a secret for signing. The secret is not checked again; `validateSecret` did that when it was given. */
export function createSigner(secret: string): Signer {
  if (secret === '') throw new PosthasteError('SECRET_INVALID', 'The secret is empty; an empty key signs nothing.')
  const raw = rawKeyBytes(secret)
  const standard = keyBytes(secret)
  const rawKey = new HmacKey(raw)
  return Object.freeze({ rawKey, standardKey: standard.equals(raw) ? rawKey : new HmacKey(standard) })
}

/**
 * The body that is sent. The `posthaste` envelope's `signature` is the HMAC over the same bytes without that member, since
 * it cannot sign itself.
 */
export function buildBody(parts: BodyParts): Buffer {
  if (parts.envelope === 'standard') return Buffer.from(`${unsignedMembers(parts)}}`, 'utf8')
  const open = unsignedMembers(parts)
  const length = Buffer.byteLength(open, 'utf8')
  const body = Buffer.allocUnsafe(length + SIGNATURE_SUFFIX_LENGTH)
  body.write(open, 0, 'utf8')
  body[length] = CLOSING_BRACE
  const hex = parts.signer.rawKey.sign('', body.subarray(0, length + 1), 'hex')
  body.write(`${SIGNATURE_MEMBER_START}${hex}"}`, length, 'latin1')
  return body
}

/**
 * The text of a body that was sent before, without the secret that signed it.
 *
 * @param signature the 64 hex digits that it carried; null in the `standard` envelope
 */
export function rebuildBody(parts: Omit<BodyParts, 'signer'>, signature: string | null): string {
  const open = unsignedMembers(parts)
  return signature === null ? `${open}}` : `${open}${SIGNATURE_MEMBER_START}${signature}"}`
}

/** The body without its signature and its closing brace. */
function unsignedMembers({ envelope, type, occurredAtMs, dataText }: Omit<BodyParts, 'signer'>): string {
  const name = JSON.stringify(type)
  return envelope === 'standard'
    ? `{"type":${name},"timestamp":"${new Date(occurredAtMs).toISOString()}","data":${dataText}`
    : `{"event":${name},"timestamp":${Math.floor(occurredAtMs / 1000)},"data":${dataText}`
}

/** The value of `X-Webhook-Signature`: `sha256=` and lower-case hex over the raw body. */
export function signatureHeader(body: Uint8Array, signer: Signer): string {
  return `sha256=${signer.rawKey.sign('', body, 'hex')}`
}

/**
 * The value of `webhook-signature` (Standard Webhooks 1.0) over `id.timestamp.body`: one `v1,<base64>` for each signer, then
 * one `v1a,<base64>` for each ed25519 private key, separated by spaces.
 *
 * @param id ASCII, as our ids are
 * @param timestampSeconds Unix seconds of this attempt, as in `webhook-timestamp`
 */
export function standardSignature(
  id: string,
  timestampSeconds: number,
  body: Uint8Array,
  signers: readonly Signer[],
  ed25519Keys: readonly KeyObject[] = [],
): string {
  const prefix = `${id}.${timestampSeconds}.`
  const signatures = signers.map(({ standardKey }) => `v1,${standardKey.sign(prefix, body, 'base64')}`)
  if (ed25519Keys.length > 0) {
    const content = Buffer.concat([Buffer.from(prefix, 'latin1'), body])
    for (const key of ed25519Keys) signatures.push(`v1a,${edSign(null, content, key).toString('base64')}`)
  }
  return signatures.join(' ')
}
