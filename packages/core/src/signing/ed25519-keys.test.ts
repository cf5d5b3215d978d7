import { createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { PosthasteError } from '../errors.ts'
import { generateEd25519Keys, importEd25519Keys } from './ed25519-keys.ts'

/** The example key pair of the server that Standard Webhooks comes from: seed and public key in one. */
const WHSK = 'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=='
const WHPK = 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4='
const SEED = `whsk_${Buffer.from(WHSK.slice(5), 'base64').subarray(0, 32).toString('base64')}`
const X = Buffer.from(WHPK.slice(5), 'base64').toString('base64url')

const other = generateKeyPairSync('ed25519')
const x448 = generateKeyPairSync('ed448')
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })

function problemOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof PosthasteError && error.code === 'CONFIG_INVALID') return error.message
    throw error
  }
  throw new Error('it was accepted')
}

describe('private keys', () => {
  const { sign: imported } = importEd25519Keys({ privateKeys: [SEED] })
  const keyObject = imported[0]!
  const pem = keyObject.export({ format: 'pem', type: 'pkcs8' }).toString()

  test.each([
    ['whsk_ of seed and public key', WHSK],
    ['whsk_ of the seed', SEED],
    ['PEM', pem],
    ['a KeyObject', keyObject],
  ])('%s is the same key', (_, key) => {
    const keys = importEd25519Keys({ privateKeys: [key] })
    const signature = sign(null, Buffer.from('x'), keys.sign[0]!)
    expect(verify(null, Buffer.from('x'), createPublicKey(pem), signature)).toBe(true)
    expect(keys.jwks.keys.map(({ x }) => x)).toStrictEqual([X])
  })

  test.each([
    ['a public key', WHPK, 'public key'],
    ['a public key as PEM', other.publicKey.export({ format: 'pem', type: 'spki' }).toString(), 'public key'],
    ['a public KeyObject', other.publicKey, 'must be whsk_'],
    ['halves of two keys', `${SEED.slice(0, 5)}${Buffer.alloc(64, 5).toString('base64')}`, 'do not belong together'],
    ['too few bytes', 'whsk_AAAA', 'must be whsk_'],
    ['what is no base64', `whsk_%${SEED.slice(6)}`, 'must be whsk_'],
    ['a symmetric secret', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'must be whsk_'],
    ['another curve', x448.privateKey, 'must be whsk_'],
    ['another algorithm', ec.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), 'must be whsk_'],
    ['nothing', '', 'must be whsk_'],
    ['null', null as unknown as string, 'must be whsk_'],
  ])('%s is refused, and named by its place alone', (_, key, problem) => {
    const message = problemOf(() => importEd25519Keys({ privateKeys: [other.privateKey, key] }))
    expect(message).toContain(problem)
    expect(message).toContain('ed25519.privateKeys[1]')
    if (typeof key === 'string' && key.length > 20) expect(message).not.toContain(key.slice(5, 20))
  })

  test('more than four, the same one twice, or no list', () => {
    const many = Array.from({ length: 5 }, () => generateEd25519Keys().privateKey)
    expect(problemOf(() => importEd25519Keys({ privateKeys: many }))).toContain('at most 4')
    expect(problemOf(() => importEd25519Keys({ privateKeys: [WHSK, SEED] }))).toContain('twice')
    expect(problemOf(() => importEd25519Keys({ privateKeys: WHSK as unknown as string[] }))).toContain('list')
  })
})

describe('the JWK Set', () => {
  test('is empty without keys', () => {
    expect(importEd25519Keys(undefined)).toStrictEqual({ sign: [], jwks: { keys: [] } })
  })

  test('kid is the thumbprint: the example of RFC 8037, A.3', () => {
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }
    const publicKey = createPublicKey({ key: jwk, format: 'jwk' })
    expect(importEd25519Keys({ privateKeys: [], publicKeys: [publicKey] }).jwks.keys).toStrictEqual([
      { ...jwk, kid: 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k', use: 'sig', alg: 'EdDSA' },
    ])
  })

  test('shows the public halves of those that sign, then the further ones, each once', () => {
    const { jwks } = importEd25519Keys({ privateKeys: [WHSK, other.privateKey], publicKeys: [WHPK, other.publicKey] })
    expect(jwks.keys.map(({ x }) => x)).toStrictEqual([X, other.publicKey.export({ format: 'jwk' }).x])
    for (const jwk of jwks.keys) expect(jwk).not.toHaveProperty('d')
  })

  test.each([
    ['a private key', WHSK, 'private key'],
    ['a private key as PEM', other.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), 'private key'],
    ['a private KeyObject', other.privateKey, 'must be whpk_'],
    ['too few bytes', 'whpk_AAAA', 'must be whpk_'],
    ['another algorithm', ec.publicKey, 'must be whpk_'],
  ])('a further key that is %s is refused', (_, key, problem) => {
    expect(problemOf(() => importEd25519Keys({ privateKeys: [], publicKeys: [key] }))).toContain(problem)
  })
})

test('generated pairs belong together, differ, and are of the form that others write', () => {
  const [one, two] = [generateEd25519Keys(), generateEd25519Keys()]
  expect(one.privateKey).toMatch(/^whsk_[A-Za-z0-9+/]{86}==$/)
  expect(one.privateKey).not.toBe(two.privateKey)
  const own = importEd25519Keys({ privateKeys: [one.privateKey] })
  expect(own.jwks).toStrictEqual(importEd25519Keys({ privateKeys: [], publicKeys: [one.publicKey] }).jwks)
})

test('nothing of a private key is shown by inspecting what was made of it', () => {
  const text = inspect(importEd25519Keys({ privateKeys: [WHSK] }), { depth: 9, showHidden: true })
  expect(text).not.toContain(SEED.slice(5, 30))
})
