/**
 * The installation's ed25519 keys: each delivery can also carry `v1a` signatures of Standard Webhooks, which whoever knows the
 * public key verifies without being able to make them. The public keys are published as a JWK Set (RFC 7517, RFC 8037).
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, KeyObject } from 'node:crypto'
import { PosthasteError } from '../errors.ts'

/** A private key: `whsk_…` of Standard Webhooks, PEM (PKCS #8), or a `KeyObject` of node:crypto. */
export type Ed25519PrivateKey = string | KeyObject
/** A public key: `whpk_…` of Standard Webhooks, PEM (SPKI), or a `KeyObject` of node:crypto. */
export type Ed25519PublicKey = string | KeyObject

export interface Ed25519Options {
  /** Each delivery carries a signature of each of these: one, and two while receivers move from one to the next. At most 4. */
  privateKeys: readonly Ed25519PrivateKey[]
  /**
   * Public keys that `jwks.json` shows besides those of the private ones: a key that is to sign soon, so that receivers know it
   * before its first signature. Default none.
   */
  publicKeys?: readonly Ed25519PublicKey[]
}

/** A public key as receivers read it in `jwks.json`. Its `kid` is the thumbprint of RFC 7638. */
export interface Ed25519Jwk {
  kty: 'OKP'
  crv: 'Ed25519'
  /** The 32 bytes of the key in base64url. */
  x: string
  kid: string
  use: 'sig'
  alg: 'EdDSA'
}

export interface JsonWebKeySet {
  keys: Ed25519Jwk[]
}

export interface Ed25519Keys {
  /** They sign, in this order. */
  readonly sign: readonly KeyObject[]
  readonly jwks: JsonWebKeySet
}

export const NO_ED25519_KEYS: Ed25519Keys = Object.freeze({ sign: [], jwks: { keys: [] } })

/** A `v1a` signature is 93 characters, and receivers commonly refuse request heads above 8 KiB. */
const MAX_PRIVATE_KEYS = 4
const MAX_PUBLIC_KEYS = 20

const KEY_BYTES = 32
/** What comes before the bytes of a key in DER (RFC 8410, 7 and 4). */
const PKCS8_START = Buffer.from('302e020100300506032b657004220420', 'hex')
const SPKI_START = Buffer.from('302a300506032b6570032100', 'hex')

/** A fresh key pair in the formats of Standard Webhooks, to be kept by the host with its other secrets. */
export function generateEd25519Keys(): { privateKey: string; publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const raw = publicBytes(publicKey)
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-KEY_BYTES)
  return {
    privateKey: `whsk_${Buffer.concat([seed, raw]).toString('base64')}`,
    publicKey: `whpk_${raw.toString('base64')}`,
  }
}

/** @throws {PosthasteError} `CONFIG_INVALID`, naming which key, never the key */
export function importEd25519Keys(options: Ed25519Options | undefined): Ed25519Keys {
  if (options === undefined) return NO_ED25519_KEYS
  const privateKeys = list(options.privateKeys, 'ed25519.privateKeys', MAX_PRIVATE_KEYS)
  const publicKeys = list(options.publicKeys ?? [], 'ed25519.publicKeys', MAX_PUBLIC_KEYS)
  const sign = privateKeys.map((key, index) => importPrivateKey(key, `ed25519.privateKeys[${index}]`))
  const shown = [...sign.map((key) => createPublicKey(key)), ...publicKeys.map(importListedPublicKey)]
  const jwks = new Map(shown.map(toJwk).map((jwk) => [jwk.kid, jwk]))
  if (new Set(sign.map((key) => toJwk(createPublicKey(key)).kid)).size < sign.length) {
    throw invalid('ed25519.privateKeys', 'holds the same key twice.')
  }
  return { sign, jwks: { keys: [...jwks.values()] } }
}

function importListedPublicKey(key: Ed25519PublicKey, index: number): KeyObject {
  return importPublicKey(key, `ed25519.publicKeys[${index}]`)
}

function importPrivateKey(key: unknown, option: string): KeyObject {
  const forms = 'must be whsk_ and base64 of an ed25519 key, PEM (PKCS #8) of one, or such a KeyObject.'
  if (typeof key === 'string' && /^whpk_|-----BEGIN PUBLIC KEY/.test(key)) {
    throw invalid(option, 'is a public key; private keys sign.')
  }
  const imported = attempt(() => {
    if (key instanceof KeyObject) return key
    if (typeof key !== 'string') return null
    return key.startsWith('whsk_') ? privateKeyOfBytes(decode(key.slice(5)), option) : createPrivateKey(key)
  })
  if (imported?.type !== 'private' || imported.asymmetricKeyType !== 'ed25519') throw invalid(option, forms)
  return imported
}

/** 32 bytes of seed; libsodium and the server that Standard Webhooks comes from write the public key behind it. */
function privateKeyOfBytes(bytes: Buffer | null, option: string): KeyObject | null {
  if (bytes?.length !== KEY_BYTES && bytes?.length !== 2 * KEY_BYTES) return null
  const seed = bytes.subarray(0, KEY_BYTES)
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_START, seed]), format: 'der', type: 'pkcs8' })
  if (bytes.length > KEY_BYTES && !publicBytes(createPublicKey(key)).equals(bytes.subarray(KEY_BYTES))) {
    throw invalid(option, 'has two halves that do not belong together: the second must be the public key of the first.')
  }
  return key
}

function importPublicKey(key: unknown, option: string): KeyObject {
  const forms = 'must be whpk_ and base64 of 32 bytes, PEM (SPKI) of an ed25519 key, or such a KeyObject.'
  // A private key would be taken, and its public half shown: a mistake that must not pass unnoticed.
  if (typeof key === 'string' && /^whsk_|PRIVATE KEY-----/.test(key)) {
    throw invalid(option, 'is a private key; give its public half.')
  }
  const imported = attempt(() => {
    if (key instanceof KeyObject) return key
    if (typeof key !== 'string') return null
    if (!key.startsWith('whpk_')) return createPublicKey(key)
    const bytes = decode(key.slice(5))
    if (bytes?.length !== KEY_BYTES) return null
    return createPublicKey({ key: Buffer.concat([SPKI_START, bytes]), format: 'der', type: 'spki' })
  })
  if (imported?.type !== 'public' || imported.asymmetricKeyType !== 'ed25519') throw invalid(option, forms)
  return imported
}

function toJwk(key: KeyObject): Ed25519Jwk {
  const x = publicBytes(key).toString('base64url')
  // RFC 7638, 3 and RFC 8037, A.3: the required members, in this order, without white space.
  const kid = createHash('sha256').update(`{"crv":"Ed25519","kty":"OKP","x":"${x}"}`).digest('base64url')
  return { kty: 'OKP', crv: 'Ed25519', x, kid, use: 'sig', alg: 'EdDSA' }
}

function publicBytes(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(-KEY_BYTES)
}

function decode(base64: string): Buffer | null {
  return /^[A-Za-z0-9+/]+={0,2}$/.test(base64) ? Buffer.from(base64, 'base64') : null
}

/** What node:crypto throws may tell of the key; ours says how to mend it. */
function attempt(work: () => KeyObject | null): KeyObject | null {
  try {
    return work()
  } catch (error) {
    if (error instanceof PosthasteError) throw error
    return null
  }
}

function list<T>(value: readonly T[], option: string, most: number): readonly T[] {
  if (Array.isArray(value) && value.length <= most) return value
  throw invalid(option, `must be a list of at most ${most} keys.`)
}

function invalid(option: string, problem: string): PosthasteError {
  return new PosthasteError('CONFIG_INVALID', `${option} ${problem}`)
}
