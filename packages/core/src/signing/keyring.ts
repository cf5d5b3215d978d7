/**
 * Secrets at rest. AES-256-GCM with a random nonce of 12 bytes for each value (NIST SP 800-38D, 8.2.2: at most 2^32 values
 * under one key), the key's id beside the value so that keys can change, and the value bound to the place it belongs to, so
 * that one endpoint's secret copied into another's row does not open.
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { PosthasteError } from '../errors.ts'

export interface Keyring {
  /** The id of the key that seals; null where values are stored plain. */
  readonly current: string | null
  /** What everything that `seal` makes begins with, and nothing else. */
  readonly currentPrefix: string
  /**
   * The value in the form that goes into the database: `v1.<key id>.<base64url>`, or `plain.<value>` of `plainKeyring`.
   *
   * @param context where the value belongs, such as `ep_0192….secret`; `open` must be given the same
   */
  seal(value: string, context: string): string
  /**
   * @throws {PosthasteError} `SECRET_UNREADABLE`: the key is missing (the message names its id), or the text was changed,
   * or sealed for another context
   */
  open(sealed: string, context: string): string
  /** Whether values under this key can be opened; null: plain ones. Without the key a process pauses its work rather than fail it. */
  has(key: string | null): boolean
  /** Whether the value is better sealed anew: it is plain, or under another key than the current one. */
  needsReseal(sealed: string): boolean
}

export interface KeyringOptions {
  /** Id of the key that seals; the others only open. */
  current: string
  /** Keys by id (letters, digits, `_` and `-`, up to 64): 32 bytes each, as bytes, as 64 hex digits or as base64. */
  keys: Readonly<Record<string, Uint8Array | string>>
  /** Open values that were stored plain, to move from `plainKeyring` to this one. Default false. */
  acceptPlain?: boolean
}

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const PLAIN_PREFIX = 'plain.'
const KEY_ID = /^[A-Za-z0-9_-]{1,64}$/
const SEALED = /^v1\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]+)$/

/**
 * Encryption under named keys. To change the key: add the new one, make it `current`, seal again what `needsReseal`
 * (`webhooks.secretKeys.reseal()`), and only then remove the old one.
 *
 * @throws {PosthasteError} `CONFIG_INVALID`: a key that is not 32 bytes, a bad id, or no key with the id `current`
 */
export function createKeyring({ current, keys, acceptPlain = false }: KeyringOptions): Keyring {
  const keyObjects = new Map(Object.entries(keys).map(([id, key]) => [id, importKey(id, key)]))
  const currentKey = keyObjects.get(current)
  if (currentKey === undefined) {
    const known = [...keyObjects.keys()].join(', ') || 'none'
    throw new PosthasteError(
      'CONFIG_INVALID',
      `The keyring has no key with the current id "${current}" (it has: ${known}).`,
    )
  }

  return {
    current,
    currentPrefix: `v1.${current}.`,

    seal(value, context) {
      requireWellFormed(value)
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv(CIPHER, currentKey, nonce, { authTagLength: TAG_BYTES })
      cipher.setAAD(associatedData(current, context))
      const parts = [nonce, cipher.update(value, 'utf8'), cipher.final(), cipher.getAuthTag()]
      return `v1.${current}.${Buffer.concat(parts).toString('base64url')}`
    },

    open(sealed, context) {
      if (sealed.startsWith(PLAIN_PREFIX)) {
        if (acceptPlain) return sealed.slice(PLAIN_PREFIX.length)
        throw unreadable('It is stored plain; set acceptPlain on the keyring while you seal such values again.')
      }
      const match = SEALED.exec(sealed)
      if (match === null) throw unreadable('It is not in a form that this version knows.')
      const id = match[1] as string
      const key = keyObjects.get(id)
      if (key === undefined)
        throw unreadable(`Its key "${id}" is not in the keyring; add that key to the configuration.`)
      return decrypt(key, id, Buffer.from(match[2] as string, 'base64url'), context)
    },

    has: (key) => (key === null ? acceptPlain : keyObjects.has(key)),

    needsReseal: (sealed) => SEALED.exec(sealed)?.[1] !== current,
  }
}

/**
 * No encryption, for hosts that ask for it explicitly (the whole database is encrypted, or it is a test). Values say of
 * themselves that they are plain.
 */
export function plainKeyring(): Keyring {
  return {
    current: null,
    currentPrefix: PLAIN_PREFIX,
    seal(value) {
      requireWellFormed(value)
      return PLAIN_PREFIX + value
    },
    open(sealed) {
      if (sealed.startsWith(PLAIN_PREFIX)) return sealed.slice(PLAIN_PREFIX.length)
      throw unreadable('It is encrypted, and this process is configured with plain storage; configure its keyring.')
    },
    has: (key) => key === null,
    needsReseal: () => false,
  }
}

function decrypt(key: KeyObject, id: string, bytes: Buffer, context: string): string {
  if (bytes.length < NONCE_BYTES + TAG_BYTES) throw unreadable('It is cut short.')
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
  decipher.setAAD(associatedData(id, context))
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
  try {
    const value = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES))
    // Only now is it known to be authentic. GCM holds nothing back for the end.
    decipher.final()
    return value.toString('utf8')
  } catch {
    throw unreadable(
      `It does not open with key "${id}": another key has that id, or it was changed or moved to another place.`,
    )
  }
}

/** Version and key id are part of what is authenticated, so neither can be exchanged in the stored text. */
function associatedData(keyId: string, context: string): Buffer {
  return Buffer.from(`posthaste.v1.${keyId}.${context}`, 'utf8')
}

function importKey(id: string, key: Uint8Array | string): KeyObject {
  if (!KEY_ID.test(id)) {
    throw new PosthasteError('CONFIG_INVALID', `The key id "${id}" must be 1 to 64 letters, digits, "_" or "-".`)
  }
  const bytes = typeof key === 'string' ? decodeKey(key) : Buffer.from(key)
  if (bytes?.length !== KEY_BYTES) {
    throw new PosthasteError(
      'CONFIG_INVALID',
      `The key "${id}" must be ${KEY_BYTES} bytes: as bytes, 64 hex digits or base64.`,
    )
  }
  return createSecretKey(bytes)
}

function decodeKey(text: string): Buffer | null {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text, 'hex')
  return /^[A-Za-z0-9+/_-]{43}=?$/.test(text) ? Buffer.from(text, 'base64') : null
}

/** Text with half a surrogate pair would come back as another text. */
function requireWellFormed(value: string): void {
  if (!value.isWellFormed()) {
    throw new PosthasteError(
      'SECRET_INVALID',
      'The value to seal holds half of a surrogate pair, which has no UTF-8 bytes.',
    )
  }
}

function unreadable(reason: string): PosthasteError {
  return new PosthasteError('SECRET_UNREADABLE', `A stored secret cannot be read. ${reason}`)
}
