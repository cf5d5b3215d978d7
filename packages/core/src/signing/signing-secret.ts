/** The secret that an endpoint's owner and we share: what is accepted, how one is made, and which bytes are the key. */
import { randomBytes } from 'node:crypto'
import { PosthasteError } from '../errors.ts'

/** Prefix of secrets in the form of Standard Webhooks: what follows is base64 of the key. */
export const SECRET_PREFIX = 'whsec_'

/** In characters (code points); from the contract. */
export const MIN_SECRET_LENGTH = 8
export const MAX_SECRET_LENGTH = 256

/** Bytes of key in a `whsec_` secret: the range of Standard Webhooks 1.0, "Signature scheme". */
const MIN_KEY_BYTES = 24
const MAX_KEY_BYTES = 64
const GENERATED_KEY_BYTES = 32

const CONTROL_CHARACTER = /\p{Cc}/u

/** A fresh secret: `whsec_` and base64 of 32 random bytes. */
export function generateSecret(): string {
  return SECRET_PREFIX + randomBytes(GENERATED_KEY_BYTES).toString('base64')
}

/**
 * Checks a secret that an owner gave. It is used as given, never trimmed, so that both sides have the same bytes.
 *
 * @throws {PosthasteError} `SECRET_INVALID`: not text, not 8–256 characters, control characters or half a surrogate pair in
 * it, or `whsec_` and something else than base64 of 24–64 bytes. The message never holds the secret.
 */
export function validateSecret(secret: unknown): asserts secret is string {
  const problem = secretProblem(secret)
  if (problem !== null) {
    throw new PosthasteError('SECRET_INVALID', `The secret ${problem}`, {
      errors: [{ path: 'secret', message: `The secret ${problem}` }],
    })
  }
}

/** What is wrong with a secret, as the rest of a sentence that starts "The secret …"; null where nothing is. */
export function secretProblem(secret: unknown): string | null {
  if (typeof secret !== 'string') return 'must be text.'
  if (!secret.isWellFormed()) return 'holds half of a surrogate pair, which has no UTF-8 bytes.'
  const length = Array.from(secret.slice(0, 2 * MAX_SECRET_LENGTH + 2)).length
  if (length < MIN_SECRET_LENGTH || length > MAX_SECRET_LENGTH) {
    return `must have ${MIN_SECRET_LENGTH} to ${MAX_SECRET_LENGTH} characters.`
  }
  if (CONTROL_CHARACTER.test(secret)) return 'holds a control character, such as a line break at its end; remove it.'
  if (secret.startsWith(SECRET_PREFIX) && decodeStandardKey(secret) === null) {
    const range = `${MIN_KEY_BYTES} to ${MAX_KEY_BYTES}`
    return `begins with ${SECRET_PREFIX}, so the rest must be base64 (with padding) of ${range} bytes.`
  }
  return null
}

/** The HMAC key of `X-Webhook-Signature` and of the body's `signature`: the UTF-8 bytes as shown, any `whsec_` included. */
export function rawKeyBytes(secret: string): Buffer {
  return Buffer.from(secret, 'utf8')
}

/** The HMAC key of Standard Webhooks: the bytes that `whsec_…` encodes, else the UTF-8 bytes of the secret. */
export function keyBytes(secret: string): Buffer {
  return decodeStandardKey(secret) ?? rawKeyBytes(secret)
}

/** The same Standard Webhooks key as `whsec_` and base64, for libraries that refuse or misread plain secrets. */
export function standardWebhooksSecret(secret: string): string {
  return SECRET_PREFIX + keyBytes(secret).toString('base64')
}

/** Null where the text is not `whsec_` and canonical base64 of 24–64 bytes. */
function decodeStandardKey(secret: string): Buffer | null {
  if (!secret.startsWith(SECRET_PREFIX)) return null
  const encoded = secret.slice(SECRET_PREFIX.length)
  const key = Buffer.from(encoded, 'base64')
  // Buffer.from skips what is not base64; only text that encodes back to itself was base64.
  if (key.length < MIN_KEY_BYTES || key.length > MAX_KEY_BYTES || key.toString('base64') !== encoded) return null
  return key
}
