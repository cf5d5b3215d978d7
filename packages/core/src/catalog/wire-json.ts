/**
 * The host's input as the exact JSON text that goes over the wire, made once: the text is stored, sent and signed as it is,
 * and the value beside it is a plain copy of what the text says, for validation. Whatever JSON would drop or change without
 * a word (`NaN` to null, a `Map` to `{}`) is refused instead, with its path.
 */
import { types } from 'node:util'
import { PosthasteError } from '../errors.ts'

export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue }
export type JsonObject = { [key: string]: JsonValue }

export interface Normalised {
  /** A plain copy: no dates, no class instances, nothing shared with the input. */
  value: JsonObject
  /** `value` as compact JSON, the text to store and to send. */
  text: string
}

/** Nesting that is still accepted. Deeper input is nearly always a cycle, and receivers' parsers have limits of their own. */
export const MAX_DEPTH = 200

/**
 * Values in one payload. A structure that repeats one object at every level is small in memory and endless as text; this
 * ends the walk. The size limit in bytes, which the caller checks on the text, is far below for anything real.
 */
export const MAX_VALUES = 1_000_000

/** Paths in errors are cut here, so that a key of a megabyte does not become a message of a megabyte. */
const MAX_PATH_LENGTH = 200

/**
 * The input as a plain value and as wire text.
 *
 * Rules: `Date` becomes RFC 3339 with milliseconds (`toISOString`); `undefined` members are dropped; an object with
 * `toJSON` is replaced by what that returns; class instances count by their own enumerable members; symbol keys are not
 * read. Members keep their order, except that JavaScript itself moves integer-like keys (`"7"`) to the front of an object.
 * `-0` is written as `0`.
 *
 * @throws {PosthasteError} `NOT_JSON` with the path: the top level is not an object, or something in it is `undefined` in
 * an array, a hole, BigInt, NaN, ±Infinity, a function, a symbol, an invalid date or one outside the years 0–9999, a Map,
 * Set, Promise, RegExp, Error, boxed primitive or typed array, a cycle, a lone surrogate in text or key, or deeper than 200.
 */
export function normalise(input: unknown): Normalised {
  const walk = new Walk()
  const value = walk.copy(input, 0, '')
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refusal('', `The payload must be an object with members, such as { order_id: 7 }; this is ${nameOf(value)}.`)
  }
  const text = JSON.stringify(value)
  // JSON.stringify writes a lone surrogate as \udXXX, in lower case. Text that merely contains "\\ud" gets here too.
  if (text.includes('\\ud')) refuseLoneSurrogates(value, [])
  return { value: value as JsonObject, text }
}

/** As `normalise`, the text only. */
export function toWireJson(input: unknown): string {
  return normalise(input).text
}

class Walk {
  private readonly path: (string | number)[] = []
  private readonly ancestors: object[] = []
  private values = 0

  copy(input: unknown, depth: number, key: string | number): unknown {
    switch (typeof input) {
      case 'string':
      case 'boolean':
        return input
      case 'number':
        if (Number.isFinite(input)) return input
        throw this.refuse(depth, `${input} has no JSON form; leave the member out or send null.`)
      case 'object':
        return input === null ? null : this.copyObject(input, depth, key, true)
      case 'undefined':
        throw this.refuse(depth, 'undefined has no JSON form here; send null or leave it out.')
      case 'bigint':
        throw this.refuse(depth, 'A BigInt has no JSON form that receivers read alike; send String(value).')
      default:
        throw this.refuse(depth, `A ${typeof input} has no JSON form; leave it out.`)
    }
  }

  private copyObject(input: object, depth: number, key: string | number, callToJson: boolean): unknown {
    const prototype = Object.getPrototypeOf(input)
    const plain = prototype === Object.prototype || prototype === Array.prototype
    // Before toJSON, which answers null for an invalid date and which some hosts patch to local time.
    if (!plain && types.isDate(input)) return this.dateText(input, depth)
    if (callToJson && hasToJson(input)) return this.fromToJson(input, depth, key)
    if (Array.isArray(input)) return this.copyArray(input, depth)
    if (!plain) this.refuseExotic(input, depth)
    return this.copyMembers(input as Record<string, unknown>, depth)
  }

  private copyMembers(input: Record<string, unknown>, depth: number): JsonObject {
    const keys = Object.keys(input)
    this.enter(input, depth, keys.length)
    const copy: Record<string, unknown> = {}
    for (const key of keys) {
      const member = input[key]
      if (member === undefined) continue
      this.path[depth] = key
      const value = typeof member === 'string' ? member : this.copy(member, depth + 1, key)
      // Assigning would set the copy's prototype instead of a member.
      if (key === '__proto__') Object.defineProperty(copy, key, { value, ...PLAIN_MEMBER })
      else copy[key] = value
    }
    return copy as JsonObject
  }

  private copyArray(input: readonly unknown[], depth: number): unknown[] {
    this.enter(input, depth, input.length)
    const copy: unknown[] = []
    for (let index = 0; index < input.length; index++) {
      this.path[depth] = index
      copy.push(this.copy(input[index], depth + 1, index))
    }
    return copy
  }

  private enter(input: object, depth: number, members: number): void {
    this.values += 1 + members
    if (this.values > MAX_VALUES) {
      throw this.refuse(
        depth,
        `The payload holds more than ${MAX_VALUES} values by here; send a reference to the data.`,
      )
    }
    if (depth >= MAX_DEPTH) throw this.refuseDepth(input, depth)
    this.ancestors[depth] = input
  }

  private dateText(date: Date, depth: number): string {
    const time = date.getTime()
    // Beyond these, toISOString writes a signed six-digit year, which RFC 3339 does not have.
    if (time >= YEAR_0 && time < YEAR_10000) return new Date(time).toISOString()
    const problem = Number.isNaN(time) ? 'is an invalid Date' : 'lies outside the years 0–9999 of RFC 3339'
    throw this.refuse(depth, `The date ${problem}.`)
  }

  private fromToJson(input: { toJSON(key: string): unknown }, depth: number, key: string | number): unknown {
    let replacement: unknown
    try {
      replacement = input.toJSON(String(key))
    } catch (cause) {
      throw this.refuse(depth, 'Its toJSON() threw an error.', cause)
    }
    // As JSON.stringify does: what toJSON returned is not asked again, so that one returning `this` ends.
    if (typeof replacement === 'object' && replacement !== null) return this.copyObject(replacement, depth, key, false)
    return this.copy(replacement, depth, key)
  }

  private refuseExotic(input: object, depth: number): void {
    for (const [is, what] of EXOTIC) {
      if (is(input))
        throw this.refuse(depth, `${what} has no JSON form that keeps its content; convert it to plain values first.`)
    }
  }

  private refuseDepth(input: object, depth: number): PosthasteError {
    const chain = [...this.ancestors.slice(0, depth), input]
    const again = chain.findIndex((ancestor, index) => chain.indexOf(ancestor) < index)
    if (again < 0) return this.refuse(depth, `The payload is nested deeper than ${MAX_DEPTH} levels.`)
    return this.refuse(again, 'The payload contains itself here (a cycle), which JSON cannot express.')
  }

  private refuse(depth: number, message: string, cause?: unknown): PosthasteError {
    return refusal(pathText(this.path.slice(0, depth)), message, cause)
  }
}

const PLAIN_MEMBER = { enumerable: true, writable: true, configurable: true }
const YEAR_0 = Date.parse('0000-01-01T00:00:00Z')
const YEAR_10000 = Date.parse('9999-12-31T23:59:59.999Z') + 1

/** Objects whose content is not in their own members, so that JSON would write `{}` or numbered bytes. */
const EXOTIC: ReadonlyArray<readonly [is: (value: object) => boolean, what: string]> = [
  [types.isMap, 'A Map'],
  [types.isSet, 'A Set'],
  [types.isWeakMap, 'A WeakMap'],
  [types.isWeakSet, 'A WeakSet'],
  [types.isPromise, 'A Promise (is an await missing?)'],
  [types.isRegExp, 'A RegExp'],
  [types.isNativeError, 'An Error'],
  [types.isBoxedPrimitive, 'A boxed primitive'],
  [types.isAnyArrayBuffer, 'An ArrayBuffer'],
  [ArrayBuffer.isView, 'A typed array'],
  [types.isGeneratorObject, 'A generator'],
  [isRawJson, 'JSON.rawJSON()'],
]

/** `JSON.isRawJSON` where the runtime has it (Node 22 and newer; TypeScript's libraries do not name it yet). */
function isRawJson(value: object): boolean {
  return (JSON as { isRawJSON?: (value: object) => boolean }).isRawJSON?.(value) === true
}

function hasToJson(input: object): input is { toJSON(key: string): unknown } {
  return typeof (input as { toJSON?: unknown }).toJSON === 'function'
}

/** Only for values whose text looks suspicious, so it may take its time. */
function refuseLoneSurrogates(value: unknown, path: (string | number)[]): void {
  if (typeof value === 'string') {
    if (!value.isWellFormed()) {
      throw refusal(pathText(path), 'The text holds half of a surrogate pair; use toWellFormed() or cut by characters.')
    }
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, member] of Object.entries(value)) {
      const memberPath = [...path, key]
      if (!key.isWellFormed()) throw refusal(pathText(memberPath), 'The key holds half of a surrogate pair.')
      refuseLoneSurrogates(member, memberPath)
    }
  }
}

function pathText(path: readonly (string | number)[]): string {
  const text = path.join('.').toWellFormed()
  return text.length > MAX_PATH_LENGTH ? `${text.slice(0, MAX_PATH_LENGTH).toWellFormed()}…` : text
}

function nameOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`
}

function refusal(path: string, message: string, cause?: unknown): PosthasteError {
  const where = path === '' ? '' : ` at ${path}`
  return new PosthasteError('NOT_JSON', `The payload cannot be sent as JSON${where}: ${message}`, {
    errors: [{ path, message }],
    ...(cause === undefined ? {} : { cause }),
  })
}
