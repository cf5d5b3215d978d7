import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { PosthasteError } from '../errors.ts'
import { MAX_DEPTH, normalise, toWireJson } from './wire-json.ts'

function refusal(input: unknown): PosthasteError {
  try {
    normalise(input)
  } catch (error) {
    if (error instanceof PosthasteError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

function nested(depth: number): unknown {
  let value: unknown = {}
  for (let level = 1; level < depth; level++) value = { a: value }
  return value
}

describe('what is carried', () => {
  test('dates become RFC 3339, undefined members go, order stays', () => {
    const text = toWireJson({ z: new Date('2024-01-20T14:30:00Z'), gone: undefined, a: [null, true, 'x', { b: 85.5 }] })
    expect(text).toBe('{"z":"2024-01-20T14:30:00.000Z","a":[null,true,"x",{"b":85.5}]}')
  })

  test('every safe integer is exact, to the digit', () => {
    for (const n of [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2 ** 52 + 1, 4_294_967_297]) {
      expect(toWireJson({ n })).toBe(`{"n":${BigInt(n)}}`)
      expect(JSON.parse(toWireJson({ n }))).toEqual({ n })
    }
  })

  test('the value is a plain copy of what the text says', () => {
    class Money {
      readonly amount = 5
      format() {
        return '5'
      }
    }
    const input = {
      money: new Money(),
      at: new Date(0),
      none: Object.assign(Object.create(null), { x: 1 }),
      drop: undefined,
    }
    const { value, text } = normalise(input)
    expect(value).toStrictEqual(JSON.parse(text))
    expect(value).toStrictEqual({ money: { amount: 5 }, at: '1970-01-01T00:00:00.000Z', none: { x: 1 } })
  })

  test('a getter is read once, so that value and text cannot differ', () => {
    let reads = 0
    const { value, text } = normalise({
      get n() {
        return ++reads
      },
    })
    expect([value, text]).toStrictEqual([{ n: 1 }, '{"n":1}'])
  })

  test('toJSON is used, with the key, and once', () => {
    const decimal = { toJSON: (key: string) => `${key}=85.50` }
    const itself = {
      x: 1,
      toJSON() {
        return { y: this.x }
      },
    }
    expect(toWireJson({ price: decimal, list: [decimal], itself })).toBe(
      '{"price":"price=85.50","list":["0=85.50"],"itself":{"y":1}}',
    )
    expect(toWireJson({ bytes: Buffer.from('hi') })).toBe('{"bytes":{"type":"Buffer","data":[104,105]}}')
  })

  test('__proto__ stays data and pollutes nothing', () => {
    const input = JSON.parse('{"__proto__":{"admin":true},"b":1}')
    const { value, text } = normalise(input)
    expect(text).toBe('{"__proto__":{"admin":true},"b":1}')
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
    expect(({} as { admin?: boolean }).admin).toBeUndefined()
  })

  test('objects and dates of another realm', () => {
    expect(toWireJson(runInNewContext('({ at: new Date(0), list: [1, { a: 2 }] })'))).toBe(
      '{"at":"1970-01-01T00:00:00.000Z","list":[1,{"a":2}]}',
    )
  })

  test('one object in two places is no cycle', () => {
    const shared = { a: 1 }
    expect(toWireJson({ x: shared, y: [shared, shared] })).toBe('{"x":{"a":1},"y":[{"a":1},{"a":1}]}')
  })

  test('text that only looks like an escaped surrogate, and whole pairs, pass', () => {
    const input = { path: 'C:\\users\\udo', pair: '🚀', '🔑\\ud800': 'ok' }
    expect(JSON.parse(toWireJson(input))).toStrictEqual(input)
  })

  test(`nesting of ${MAX_DEPTH} levels passes, one more does not`, () => {
    expect(toWireJson(nested(MAX_DEPTH))).toContain('{}')
    expect(refusal(nested(MAX_DEPTH + 1)).message).toContain('deeper than 200')
  })
})

describe('what is refused, and where', () => {
  const holes = [1, 2]
  delete holes[0]
  const cycle: Record<string, unknown> = { a: { b: [] } }
  ;((cycle.a as { b: unknown[] }).b as unknown[]).push(cycle.a)

  test.each<[what: string, input: unknown, path: string, message: RegExp]>([
    ['BigInt', { order: { id: 7n } }, 'order.id', /BigInt/],
    ['NaN', { items: [{ price: 1 }, { price: Number.NaN }] }, 'items.1.price', /NaN/],
    ['Infinity', { a: Number.POSITIVE_INFINITY }, 'a', /Infinity/],
    ['-Infinity', { a: Number.NEGATIVE_INFINITY }, 'a', /-Infinity/],
    ['a function', { a: () => 1 }, 'a', /function/],
    ['a symbol', { a: Symbol('x') }, 'a', /symbol/],
    ['undefined in an array', { a: [1, undefined] }, 'a.1', /undefined/],
    ['a hole', { a: holes }, 'a.0', /undefined/],
    ['an invalid date', { at: new Date('never') }, 'at', /invalid Date/],
    ['a date beyond RFC 3339', { at: new Date(8.64e15) }, 'at', /0–9999/],
    ['an invalid date of another realm', { at: runInNewContext('new Date(NaN)') }, 'at', /invalid Date/],
    ['a Map', { a: new Map([[1, 2]]) }, 'a', /Map/],
    ['a Set', { a: new Set([1]) }, 'a', /Set/],
    ['a Promise', { a: Promise.resolve(1) }, 'a', /await/],
    ['a RegExp', { a: /x/ }, 'a', /RegExp/],
    ['an Error', { a: new Error('x') }, 'a', /Error/],
    ['a boxed number', { a: Object(1) }, 'a', /boxed/],
    ['a typed array', { a: new Uint8Array(2) }, 'a', /typed array/],
    ['a cycle', cycle, 'a.b.0', /cycle/],
    ['half a surrogate pair', { name: 'a\ud800' }, 'name', /surrogate/],
    ['half a pair in an array', { a: ['ok', 'x\udc00y'] }, 'a.1', /surrogate/],
    ['half a pair in a key', { a: { 'k\ud83d': 1 } }, 'a.k\ufffd', /key/],
    ['a toJSON that throws', { a: { toJSON: () => JSON.parse('{') } }, 'a', /toJSON/],
    ['a toJSON that gives undefined', { a: { toJSON: () => undefined } }, 'a', /undefined/],
    ['an array on top', [1], '', /an array/],
    ['null on top', null, '', /null/],
    ['text on top', 'x', '', /a string/],
    ['undefined on top', undefined, '', /undefined/],
    ['a date on top', new Date(0), '', /a string/],
  ])('%s', (_what, input, path, message) => {
    const error = refusal(input)
    expect(error.code).toBe('NOT_JSON')
    expect(error.errors?.[0]?.path).toBe(path)
    expect(error.message).toMatch(message)
    if (path !== '') expect(error.message).toContain(path)
  })

  test('a BigInt also where the host gave BigInt a toJSON', () => {
    const prototype = BigInt.prototype as { toJSON?: () => string }
    prototype.toJSON = () => '7'
    try {
      expect(refusal({ a: 7n }).errors?.[0]?.path).toBe('a')
    } finally {
      delete prototype.toJSON
    }
  })

  test('what doubles at every level ends instead of filling the memory', () => {
    let doubling: unknown = { end: 1 }
    for (let level = 0; level < 100; level++) doubling = { a: doubling, b: doubling }
    expect(refusal(doubling).message).toContain('more than 1000000 values')
  })

  test('no value appears in a message', () => {
    expect(refusal({ card: 'secret-4111\ud800' }).message).not.toContain('4111')
  })
})
