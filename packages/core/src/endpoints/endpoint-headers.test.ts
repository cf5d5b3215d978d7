import { describe, expect, test } from 'vitest'
import { headerErrors, mergeHeaders, redactHeaders } from './endpoint-headers.ts'

const pathsOf = (headers: Record<string, string>) => headerErrors(headers).map(({ path }) => path)

describe('headerErrors', () => {
  test.each(['Authorization', 'X-Api-Key', 'Cookie', 'accept', "!#$%&'*+-.^_`|~09", 'X-Webhooks'])(
    '%s may be set',
    (name) => {
      expect(pathsOf({ [name]: 'a value' })).toEqual([])
    },
  )

  test.each([
    'Host',
    'content-TYPE',
    'Content-Length',
    'User-Agent',
    'Connection',
    'Keep-Alive',
    'Proxy-Authorization',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'X-Webhook-Signature',
    'x-webhook-anything',
    'webhook-id',
    'WEBHOOK-SIGNATURE',
    '',
    'with space',
    'colon:',
    'ümlaut',
    'line\nbreak',
    'x'.repeat(101),
  ])('%j may not', (name) => {
    expect(headerErrors({ [name]: 'a value' })).toHaveLength(1)
  })

  test.each(['', 'a', 'a b', 'a\tb', '~', 'x'.repeat(2048)])('the value %j is one', (value) => {
    expect(pathsOf({ 'X-A': value })).toEqual([])
  })

  test.each([' a', 'a ', '\ta', 'a\r\nX-B: c', 'a\u0000', 'ü', '\u007f', 'x'.repeat(2049)])(
    'the value %j is none',
    (value) => {
      expect(pathsOf({ 'X-A': value })).toEqual(['headers.X-A'])
    },
  )

  test('a long value is judged in linear time', () => {
    const started = performance.now()
    expect(pathsOf({ 'X-A': `a${' '.repeat(2046)}` })).toEqual(['headers.X-A'])
    expect(performance.now() - started).toBeLessThan(100)
  })

  test('at most 20, each once in whatever case', () => {
    const many = Object.fromEntries(Array.from({ length: 21 }, (_, n) => [`X-${n}`, 'v']))
    expect(pathsOf(many)).toEqual(['headers'])
    expect(pathsOf({ 'X-A': '1', 'x-a': '2' })).toEqual(['headers.x-a'])
  })
})

describe('mergeHeaders', () => {
  test('a redacted value keeps the stored one, under the name that was given', () => {
    expect(mergeHeaders({ 'x-a': '***', 'X-B': 'new' }, { 'X-A': 'old', 'X-C': 'gone' })).toEqual({
      headers: { 'x-a': 'old', 'X-B': 'new' },
      errors: [],
    })
  })

  test('with nothing to keep it is an error', () => {
    expect(mergeHeaders({ 'X-A': '***' }, {}).errors.map(({ path }) => path)).toEqual(['headers.X-A'])
  })

  test('an answer holds names only', () => {
    expect(redactHeaders(['X-A', 'X-B'])).toEqual({ 'X-A': '***', 'X-B': '***' })
  })
})
