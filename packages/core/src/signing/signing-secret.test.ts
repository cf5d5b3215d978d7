import { describe, expect, test } from 'vitest'
import { PosthasteError } from '../errors.ts'
import {
  generateSecret,
  keyBytes,
  rawKeyBytes,
  secretProblem,
  standardWebhooksSecret,
  validateSecret,
} from './signing-secret.ts'

const whsec = (bytes: number) => `whsec_${Buffer.alloc(bytes, 0xfb).toString('base64')}`

describe('what is accepted', () => {
  test.each([
    'your_webhook_secret',
    '12345678',
    'x'.repeat(256),
    '🔑'.repeat(256),
    'pässwörd',
    ' with spaces around ',
    'whsecret_not_the_prefix',
    whsec(24),
    whsec(25),
    whsec(64),
  ])('%j', (secret) => {
    expect(secretProblem(secret)).toBeNull()
  })

  test.each<[secret: unknown, why: RegExp]>([
    ['1234567', /8 to 256/],
    ['🔑'.repeat(7), /8 to 256/],
    ['x'.repeat(257), /8 to 256/],
    ['x'.repeat(1_000_000), /8 to 256/],
    ['', /8 to 256/],
    [12345678, /text/],
    [undefined, /text/],
    ['from-a-file\n', /control/],
    ['nul\u0000byte', /control/],
    ['delete\u007f-', /control/],
    ['c1-next-line\u0085', /control/],
    ['half-a-pair\ud800', /surrogate/],
    [whsec(23), /base64/],
    [whsec(65), /base64/],
    ['whsec_', /8 to 256/],
    ['whsec_your_webhook_secret', /base64/],
    [whsec(32).replace('=', ''), /base64/],
    [`${whsec(32)} `, /base64/],
    [`whsec_${Buffer.alloc(32, 0xfb).toString('base64url')}`, /base64/],
  ])('not %j', (secret, why) => {
    const problem = secretProblem(secret)
    expect(problem).toMatch(why)
    try {
      validateSecret(secret)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(PosthasteError)
      expect(error).toMatchObject({ code: 'SECRET_INVALID', errors: [{ path: 'secret' }] })
      if (typeof secret === 'string' && secret.length > 7) expect((error as Error).message).not.toContain(secret)
    }
  })
})

describe('keys', () => {
  test('generated secrets are accepted, hold 32 bytes, and differ', () => {
    const secrets = Array.from({ length: 20 }, generateSecret)
    for (const secret of secrets) {
      validateSecret(secret)
      expect(keyBytes(secret)).toHaveLength(32)
    }
    expect(new Set(secrets).size).toBe(20)
  })

  test('plain: the UTF-8 bytes; whsec_: the decoded bytes, or the text as it is for X-Webhook-Signature', () => {
    expect(keyBytes('pässwörd')).toStrictEqual(Buffer.from('pässwörd', 'utf8'))
    expect(keyBytes(whsec(24))).toStrictEqual(Buffer.alloc(24, 0xfb))
    expect(rawKeyBytes(whsec(24)).toString()).toBe(whsec(24))
  })

  test('standardWebhooksSecret is the same key in the form that libraries read', () => {
    expect(standardWebhooksSecret(whsec(32))).toBe(whsec(32))
    expect(standardWebhooksSecret('your_webhook_secret')).toBe('whsec_eW91cl93ZWJob29rX3NlY3JldA==')
  })
})
