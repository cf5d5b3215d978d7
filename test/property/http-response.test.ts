/** The reader of receivers' answers, as any network may cut them up, and as any receiver may make them up. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { headersOf, parseHead, type ResponseHead } from '../../packages/core/src/http-client/response-head.ts'
import { MAX_HEAD_BYTES, type ReadState, ResponseReader } from '../../packages/core/src/http-client/response-reader.ts'
import { propertyRuns } from '../support/property-runs.ts'

interface Heard {
  heads: ResponseHead[]
  body: string
  state: ReadState
  leftOver: boolean
}

/** What mistakes are made of. */
const ALMOST_HTTP =
  `HTTP/1.1 200 OK|HTTP/1.1 103|\r\n|\n|\r|: |Content-Length|Transfer-Encoding|chunked|0|5|ffffffffffffff| |\t|\0|x|;|,|a: b`.split(
    '|',
  )

/** Feeds pieces until the reader has enough. */
function readAll(pieces: readonly Buffer[]): Heard {
  const reader = new ResponseReader()
  reader.begin()
  const heads: ResponseHead[] = []
  let body = ''
  let state: ReadState = 'more'
  const sink = {
    onHead: (head: ResponseHead) => heads.push(head) > 0,
    onData: (data: Buffer) => {
      body += data.toString('latin1')
      return true
    },
  }
  for (const piece of pieces) {
    state = reader.read(piece, sink)
    if (state !== 'more') break
  }
  return { heads, body, state, leftOver: reader.leftOver }
}

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [...new Set(at.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [...places, bytes.length].map((end, index) => bytes.subarray(index === 0 ? 0 : places[index - 1], end))
}

const cuts = fc.array(fc.nat(), { maxLength: 30 })
const visible = fc.string({ unit: fc.constantFrom(...'abcXYZ019 !~:;=,"\t\xe9'), maxLength: 30 })
const headerName = fc
  .string({ unit: fc.constantFrom(...'abcXYZ-_09'), minLength: 1, maxLength: 12 })
  .filter((name) => !/^(content-length|transfer-encoding|connection|keep-alive|__proto__)$/i.test(name))
const headers = fc.array(fc.tuple(headerName, visible), { maxLength: 8 })
const data = fc.string({ unit: fc.constantFrom(...'ab\r\n0:\x00\xff'), maxLength: 200 })
const status = fc.integer({ min: 200, max: 599 }).filter((code) => code !== 204 && code !== 304)

function headText(code: number, lines: readonly (readonly [string, string])[]): string {
  return `HTTP/1.1 ${code} Fine\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
}

function chunked(pieces: readonly string[], extension: string): string {
  return `${pieces.map((piece) => `${piece.length.toString(16)}${extension}\r\n${piece}\r\n`).join('')}0\r\nx-sum: 1\r\n\r\n`
}

describe('a valid response', () => {
  test('is read the same however it is cut up, by length', () => {
    fc.assert(
      fc.property(status, headers, data, cuts, fc.nat(3), (code, lines, body, at, interims) => {
        const text =
          'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n'.repeat(interims) +
          headText(code, [...lines, ['Content-Length', String(body.length)]]) +
          body
        const heard = readAll(cut(Buffer.from(text, 'latin1'), at))
        expect(heard).toMatchObject({ body, state: 'end', leftOver: false })
        expect(heard.heads.map(({ statusCode }) => statusCode)).toEqual([...Array(interims).fill(103), code])
        const expected: Record<string, string> = {}
        for (const [name, value] of lines) {
          const key = name.toLowerCase()
          const trimmed = value.trim()
          expected[key] = Object.hasOwn(expected, key) ? `${expected[key]}, ${trimmed}` : trimmed
        }
        expect(headersOf(heard.heads.at(-1) as ResponseHead)).toEqual({
          ...expected,
          'content-length': String(body.length),
        })
      }),
      propertyRuns(300),
    )
  })

  test('is read the same however it is cut up, in chunks', () => {
    const pieces = fc.array(
      data.filter((piece) => piece !== ''),
      { maxLength: 6 },
    )
    fc.assert(
      fc.property(status, pieces, fc.constantFrom('', ';a=b', ' ; "x"'), cuts, (code, parts, extension, at) => {
        const text = headText(code, [['Transfer-Encoding', 'chunked']]) + chunked(parts, extension)
        expect(readAll(cut(Buffer.from(text, 'latin1'), at))).toMatchObject({
          body: parts.join(''),
          state: 'end',
          leftOver: false,
        })
      }),
      propertyRuns(300),
    )
  })

  test('whatever follows it is noticed, and is no part of it', () => {
    fc.assert(
      fc.property(data, fc.string({ minLength: 1 }), fc.boolean(), (body, more, inChunks) => {
        const text = inChunks
          ? headText(200, [['Transfer-Encoding', 'chunked']]) + (body === '' ? '0\r\n\r\n' : chunked([body], ''))
          : headText(200, [['Content-Length', String(body.length)]]) + body
        const bytes = Buffer.concat([Buffer.from(text, 'latin1'), Buffer.from(more)])
        expect(readAll([bytes])).toMatchObject({ body, state: 'end', leftOver: true })
      }),
      propertyRuns(300),
    )
  })
})

describe('what is no valid response', () => {
  test('never throws, and is one of the known ends, whatever the bytes', () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
      fc
        .array(fc.constantFrom(...ALMOST_HTTP), { maxLength: 40 })
        .map((parts) => Buffer.from(parts.join(''), 'latin1')),
    )
    fc.assert(
      fc.property(noise, cuts, (bytes, at) => {
        const whole = readAll([bytes])
        const inPieces = readAll(cut(bytes, at))
        const kind = ({ state }: Heard) => (typeof state === 'string' ? state : state.code)
        expect(['more', 'end', 'INVALID_RESPONSE', 'HEADERS_TOO_LARGE']).toContain(kind(whole))
        // The head is judged alike, however it came.
        expect(inPieces.heads.map(({ text }) => text)).toEqual(whole.heads.map(({ text }) => text))
        expect(inPieces.body.startsWith(whole.body) || whole.body.startsWith(inPieces.body)).toBe(true)
      }),
      propertyRuns(2_000),
    )
  })

  test.each([
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6'],
    ['the same length twice', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5'],
    ['a list of lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5, 5'],
    ['a signed length', 'HTTP/1.1 200 OK\r\nContent-Length: +5'],
    ['a length in hex', 'HTTP/1.1 200 OK\r\nContent-Length: 0x5'],
    ['an empty length', 'HTTP/1.1 200 OK\r\nContent-Length:'],
    ['a length beyond exact numbers', 'HTTP/1.1 200 OK\r\nContent-Length: 9007199254740993'],
    ['a length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked'],
    ['chunks twice', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked'],
    ['a coding nobody asked for', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked'],
    ['a coding that looks like chunked', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked'],
    ['a space before the colon', 'HTTP/1.1 200 OK\r\nContent-Length : 5'],
    ['a header without a name', 'HTTP/1.1 200 OK\r\n: 5'],
    ['a header without a colon', 'HTTP/1.1 200 OK\r\nContent-Length'],
    ['a folded line', 'HTTP/1.1 200 OK\r\nX: a\r\n b'],
    ['a bare LF', 'HTTP/1.1 200 OK\r\nX: a\nContent-Length: 5'],
    ['a bare CR', 'HTTP/1.1 200 OK\r\nX: a\rContent-Length: 5'],
    ['a NUL', 'HTTP/1.1 200 OK\r\nX: a\0b'],
    ['another version', 'HTTP/2.0 200 OK'],
    ['four digits', 'HTTP/1.1 2000 OK'],
    ['a status that begins with 0', 'HTTP/1.1 020 OK'],
    ['a line before the status', '\r\nHTTP/1.1 200 OK'],
  ])('%s is refused', (_name, head) => {
    expect(parseHead(head)).toBeNull()
  })

  test.each([
    ['no size', 'x\r\n'],
    ['a bare LF after the size', '1\na\r\n'],
    ['a size too large to count', `${'f'.repeat(13)}\r\n`],
    ['a chunk that goes on', '1\r\nab\r\n'],
    ['endless extensions', `1;${'x'.repeat(MAX_HEAD_BYTES + 1)}`],
    ['endless trailers', `0\r\n${'a: b\r\n'.repeat(MAX_HEAD_BYTES)}`],
  ])('chunks with %s are refused', (_name, body) => {
    const text = `${headText(200, [['Transfer-Encoding', 'chunked']])}${body}`
    expect(readAll([Buffer.from(text)]).state).toMatchObject({ code: 'INVALID_RESPONSE' })
  })

  test('a head that does not end is refused at its limit, and not before', () => {
    const start = 'HTTP/1.1 200 OK\r\nX: '
    const fits = `${start}${'a'.repeat(MAX_HEAD_BYTES - start.length - 4)}`
    const bytewise = (text: string) => [...Buffer.from(text)].map((byte) => Buffer.from([byte]))
    for (const pieces of [[Buffer.from(fits)], bytewise(fits)]) expect(readAll(pieces).state).toBe('more')
    expect(readAll(bytewise(`${fits}\r\n\r`)).state).toBe('more')
    for (const pieces of [[Buffer.from(`${fits}aaaaa`)], bytewise(`${fits}aaaaa`)]) {
      expect(readAll(pieces).state).toMatchObject({ code: 'HEADERS_TOO_LARGE' })
    }
  })
})

describe('what is said of the connection', () => {
  test.each([
    ['HTTP/1.1 200 OK\r\nContent-Length: 0', true],
    ['HTTP/1.1 204 No Content', true],
    ['HTTP/1.1 200 OK', false],
    ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close', false],
    ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, close', false],
    ['HTTP/1.0 200 OK\r\nContent-Length: 0', false],
    ['HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive', true],
  ])('%j persists: %s', (head, persistent) => {
    expect(parseHead(head)).toMatchObject({ persistent })
  })

  test('Keep-Alive and Retry-After', () => {
    const text = 'HTTP/1.1 503 Busy\r\nKeep-Alive: max=9, timeout=5\r\nRetry-After: 120 \r\nRetry-After: 7'
    expect(parseHead(text)).toMatchObject({ keepAliveMs: 5_000, retryAfter: '120' })
  })
})
