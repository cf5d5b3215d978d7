/** Keys and comparisons by WebCrypto, whose `verify` compares in constant time. */
import { WebhookVerificationError } from './verification-error.ts'

type Bytes = Uint8Array<ArrayBuffer>

export const encoder = new TextEncoder()

/** The HMAC key of `X-Webhook-Signature`: the UTF-8 bytes of the secret as it is. */
export function rawKey(secret: string): Bytes {
  return encoder.encode(secret)
}

/** The HMAC key of Standard Webhooks: the bytes after `whsec_`, else the UTF-8 bytes of the secret. */
export function standardKey(secret: string): Bytes {
  if (!secret.startsWith('whsec_')) return rawKey(secret)
  const key = decodeBase64(secret.slice('whsec_'.length))
  if (key === null || key.length === 0) {
    throw new WebhookVerificationError(
      'secret',
      'The secret begins with whsec_ but is not base64 after it; copy it again, whole.',
    )
  }
  return key
}

/** True where any key made any of the signatures over `content`. */
export async function hmacMatches(
  keys: readonly Bytes[],
  signatures: readonly Bytes[],
  content: Bytes,
): Promise<boolean> {
  for (const bytes of keys) {
    const key = await crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
    for (const signature of signatures) {
      if (await crypto.subtle.verify('HMAC', key, signature, content)) return true
    }
  }
  return false
}

/** As `hmacMatches`, for ed25519 public keys: `whpk_` and base64, the base64 alone, or a JWK as in `jwks.json`. */
export async function ed25519Matches(
  publicKeys: readonly (string | object)[],
  signatures: readonly Bytes[],
  content: Bytes,
): Promise<boolean> {
  for (const publicKey of publicKeys) {
    const key = await importEd25519(publicKey)
    for (const signature of signatures) {
      if (await crypto.subtle.verify({ name: 'Ed25519' }, key, signature, content)) return true
    }
  }
  return false
}

async function importEd25519(publicKey: string | object) {
  try {
    const bytes = decodeBase64(
      typeof publicKey === 'string' ? publicKey.replace(/^whpk_/, '') : ed25519Member(publicKey),
    )
    if (bytes?.length !== 32) throw new TypeError('not 32 bytes')
    return await crypto.subtle.importKey('raw', bytes, { name: 'Ed25519' }, false, ['verify'])
  } catch {
    const forms = 'whpk_ and base64 of 32 bytes, or a JWK with kty OKP and crv Ed25519'
    throw new WebhookVerificationError(
      'secret',
      `A public key cannot be used: give ${forms}, on a runtime with Ed25519.`,
    )
  }
}

function ed25519Member(jwk: { kty?: unknown; crv?: unknown; x?: unknown }): string {
  if (jwk.kty !== 'OKP' || jwk.crv !== 'Ed25519' || typeof jwk.x !== 'string') throw new TypeError('not an Ed25519 JWK')
  return jwk.x
}

/** Standard or URL-safe base64, with or without padding; null for anything else. */
export function decodeBase64(text: string): Bytes | null {
  try {
    return Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (character) => character.charCodeAt(0))
  } catch {
    return null
  }
}

/** 64 hex digits as 32 bytes; null for anything else. */
export function decodeHex32(text: string): Bytes | null {
  if (!/^[0-9a-fA-F]{64}$/.test(text)) return null
  return Uint8Array.from({ length: 32 }, (_, index) => Number.parseInt(text.slice(2 * index, 2 * index + 2), 16))
}

export function concat(first: Bytes, second: Bytes): Bytes {
  const joined = new Uint8Array(first.length + second.length)
  joined.set(first)
  joined.set(second, first.length)
  return joined
}
