import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { PosthasteError } from '../errors.ts'
import { createKeyring, plainKeyring } from './keyring.ts'

const k1 = randomBytes(32)
const k2 = randomBytes(32)
const context = 'ep_0192a0b0c0d07e0f80a1b2c3d4e5f607.secret'
const secret = 'pässwörd-🔑-geheim'
const ring = createKeyring({ current: 'k1', keys: { k1 } })

function failure(act: () => unknown): PosthasteError {
  try {
    act()
  } catch (error) {
    if (error instanceof PosthasteError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('encrypted', () => {
  test('opens what it sealed, in a compact form without the secret', () => {
    const sealed = ring.seal(secret, context)
    expect(sealed).toMatch(/^v1\.k1\.[A-Za-z0-9_-]+$/)
    expect(Buffer.from(sealed.split('.')[2] ?? '', 'base64url')).toHaveLength(12 + Buffer.byteLength(secret) + 16)
    expect(ring.open(sealed, context)).toBe(secret)
    expect(ring.open(ring.seal('', context), context)).toBe('')
  })

  test('each value has a nonce of its own', () => {
    expect(new Set(Array.from({ length: 50 }, () => ring.seal(secret, context).slice(0, 22))).size).toBe(50)
  })

  test('does not open in another place, changed, cut short or under another key id', () => {
    const sealed = ring.seal(secret, context)
    const both = createKeyring({ current: 'k2', keys: { k1, k2: k1 } })
    const bytes = Buffer.from(sealed.slice('v1.k1.'.length), 'base64url')
    const attempts: Array<() => unknown> = [
      () => ring.open(sealed, 'ep_other.secret'),
      () => both.open(sealed.replace('v1.k1.', 'v1.k2.'), context),
      () => ring.open(`v1.k1.${bytes.subarray(0, 20).toString('base64url')}`, context),
      () => ring.open('v1.k1.', context),
      () => ring.open('', context),
      () => ring.open(secret, context),
    ]
    for (let index = 0; index < bytes.length; index++) {
      const changed = Buffer.from(bytes)
      changed[index] = (changed[index] ?? 0) ^ 1
      attempts.push(() => ring.open(`v1.k1.${changed.toString('base64url')}`, context))
    }
    for (const attempt of attempts) {
      const error = failure(attempt)
      expect(error.code).toBe('SECRET_UNREADABLE')
      expect(error.message).not.toContain(secret)
    }
  })

  test('a missing key is named', () => {
    const other = createKeyring({ current: 'k2', keys: { k2 } })
    const sealed = ring.seal(secret, context)
    expect(failure(() => other.open(sealed, context)).message).toContain('"k1"')
    expect([other.has('k1'), ring.has('k1'), ring.has(null)]).toStrictEqual([false, true, false])
  })

  test('keys change: the old one opens, the new one seals', () => {
    const sealed = ring.seal(secret, context)
    const changed = createKeyring({ current: 'k2', keys: { k1, k2 } })
    expect(changed.open(sealed, context)).toBe(secret)
    expect([ring.needsReseal(sealed), changed.needsReseal(sealed)]).toStrictEqual([false, true])
    const again = changed.seal(changed.open(sealed, context), context)
    expect(changed.needsReseal(again)).toBe(false)
    expect([again.startsWith(changed.currentPrefix), sealed.startsWith(changed.currentPrefix)]).toStrictEqual([
      true,
      false,
    ])
    expect(createKeyring({ current: 'k2', keys: { k2 } }).open(again, context)).toBe(secret)
  })

  test('keys as bytes, hex, base64 and base64url are the same key', () => {
    const sealed = ring.seal(secret, context)
    for (const form of [new Uint8Array(k1), k1.toString('hex'), k1.toString('base64'), k1.toString('base64url')]) {
      expect(createKeyring({ current: 'k1', keys: { k1: form } }).open(sealed, context)).toBe(secret)
    }
  })

  test.each<[what: string, options: Parameters<typeof createKeyring>[0]]>([
    ['16 bytes', { current: 'a', keys: { a: randomBytes(16) } }],
    ['a pass phrase', { current: 'a', keys: { a: 'correct horse battery staple, 32' } }],
    ['an empty key', { current: 'a', keys: { a: '' } }],
    ['an id with a dot', { current: 'a.b', keys: { 'a.b': k1 } }],
    ['a current key that is missing', { current: 'b', keys: { a: k1 } }],
    ['no keys', { current: 'a', keys: {} }],
  ])('%s is refused', (_what, options) => {
    expect(failure(() => createKeyring(options)).code).toBe('CONFIG_INVALID')
  })

  test('half a surrogate pair is refused, since it would come back as another text', () => {
    expect(failure(() => ring.seal('secret-\ud800', context)).code).toBe('SECRET_INVALID')
  })
})

describe('plain', () => {
  const plain = plainKeyring()

  test('says of itself that it is plain', () => {
    expect(plain.seal(secret, context)).toBe(`plain.${secret}`)
    expect(plain.open(`plain.${secret}`, context)).toBe(secret)
    expect(plain.needsReseal(`plain.${secret}`)).toBe(false)
  })

  test('neither kind opens the other, unless the keyring is told to take plain ones over', () => {
    const stored = plain.seal(secret, context)
    expect(failure(() => plain.open(ring.seal(secret, context), context)).code).toBe('SECRET_UNREADABLE')
    expect(failure(() => ring.open(stored, context)).code).toBe('SECRET_UNREADABLE')
    expect([ring.has(null), plain.has('k1'), plain.has(null)]).toStrictEqual([false, false, true])
    const moving = createKeyring({ current: 'k1', keys: { k1 }, acceptPlain: true })
    expect(moving.open(stored, context)).toBe(secret)
    expect([moving.needsReseal(stored), moving.has(null)]).toStrictEqual([true, true])
  })
})
