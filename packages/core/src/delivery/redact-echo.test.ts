import { describe, expect, test } from 'vitest'
import type { OutboundResult } from '../http-client/transport.ts'
import { redactEcho } from './redact-echo.ts'

const timings = { dns: null, connect: null, tls: null, firstByte: 1, total: 2 }
const answer = (excerpt: string | null, headers: Record<string, string> = {}): OutboundResult => ({
  kind: 'response',
  statusCode: 500,
  headers,
  retryAfter: null,
  excerpt,
  timings,
})
const VALUES = [
  ['Authorization', 'Bearer tok-1234567890'],
  ['X-Odd', 'a "quoted" \\ value/with=signs'],
  ['X-Short', 'abc'],
  ['X-Longer', 'tok-1234567890-and-more'],
] as const

const excerptOf = (text: string) => {
  const result = redactEcho(answer(text), VALUES)
  return result.kind === 'response' ? result.excerpt : null
}

describe('an answer that repeats custom headers', () => {
  test.each([
    ['the value', 'got Bearer tok-1234567890!', 'got ***!'],
    ['its token alone', '{"token":"tok-1234567890"}', '{"token":"***"}'],
    ['twice', 'tok-1234567890 tok-1234567890.', '*** ***.'],
    ['one that contains another', 'x tok-1234567890-and-more x', 'x *** x'],
    ['in JSON', JSON.stringify({ odd: VALUES[1][1] }), '{"odd":"***"}'],
    ['in a URL', `?odd=${encodeURIComponent(VALUES[1][1])}&b`, '?odd=***&b'],
    ['cut off at the end', 'headers: Bearer tok-12345', 'headers: Bearer ***'],
    ['nothing of it', 'abc, and that is all', 'abc, and that is all'],
  ])('%s', (_, text, expected) => {
    expect(excerptOf(text)).toBe(expected)
  })

  test('in its headers', () => {
    const result = redactEcho(answer(null, { 'x-echo': 'tok-1234567890', server: 'nginx' }), VALUES)
    expect(result).toMatchObject({ headers: { 'x-echo': '***', server: 'nginx' }, excerpt: null })
  })
})

test('an answer without them, an error, and an endpoint without custom headers are left as they are', () => {
  const plain = answer('all good', { server: 'nginx' })
  expect(redactEcho(plain, VALUES)).toStrictEqual(plain)
  const echo = answer('Bearer tok-1234567890')
  expect(redactEcho(echo, [])).toBe(echo)
  const error: OutboundResult = { kind: 'error', code: 'TIMEOUT', message: 'x', staleConnection: false, timings }
  expect(redactEcho(error, VALUES)).toBe(error)
})

test('much text and many long values are done in a moment', () => {
  const values = Array.from({ length: 20 }, (_, n) => [`X-${n}`, 'a'.repeat(2_047) + String(n)] as const)
  const text = 'a'.repeat(16_384)
  const startedAt = performance.now()
  redactEcho(answer(text), values)
  // Measured 10 ms; quadratic in both it would be minutes.
  expect(performance.now() - startedAt).toBeLessThan(5_000)
})

test('of a value of many words the longest are found', () => {
  const words = Array.from({ length: 12 }, (_, n) => `word-${n}-`.padEnd(30 - n, 'x'))
  const result = redactEcho(answer(words.join(',')), [['X-Words', words.join(' ')]])
  const expected = [...Array(8).fill('***'), ...words.slice(8)].join(',')
  expect(result).toMatchObject({ excerpt: expected })
})

test('headers and excerpts that hold a NUL, as those of a transport of the host may, stay in their places', () => {
  const result = redactEcho(answer('a\u0000tok-1234567890', { one: 'x\u0000y', two: 'tok-1234567890' }), VALUES)
  expect(result).toMatchObject({ headers: { one: 'x\ufffdy', two: '***' }, excerpt: 'a\ufffd***' })
})

test('as many words and as many small headers as an owner can have cost milliseconds', () => {
  let n = 0
  const word = () => `w${(n++).toString(36)}`.padEnd(8, '%')
  const values = Array.from({ length: 20 }, (_, i) => {
    return [`X-${i}`, Array.from({ length: 227 }, word).join(' ')] as const
  })
  const headers = Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`h${i}`, 'b']))
  const startedAt = performance.now()
  redactEcho(answer('x'.repeat(16_384), headers), values)
  // Measured 5 s for each word in each header, and 12 ms as it is.
  expect(performance.now() - startedAt).toBeLessThan(500)
})
