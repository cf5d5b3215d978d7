import { describe, expect, test } from 'vitest'
import { guardTransport } from './guarded-transport.ts'
import type { OutboundRequest, OutboundResult } from './transport.ts'

const timings = { dns: null, connect: null, tls: null, firstByte: null, total: 1 }
const answered = { kind: 'response', statusCode: 200, headers: {}, retryAfter: null, excerpt: null, timings }
const failed = { kind: 'error', code: 'TIMEOUT', message: 'late', staleConnection: false, timings }
const request = {
  url: 'https://example.com',
  headers: [],
  body: Buffer.alloc(0),
  deadlineMs: 1_000,
} as unknown as OutboundRequest

function send(result: unknown): Promise<OutboundResult> {
  return guardTransport({ send: async () => result as OutboundResult, close: async () => {} }).send(request)
}

describe('passes on', () => {
  test.each([
    ['an answer', answered],
    ['an error', failed],
    [
      'an answer with what was measured',
      { ...answered, timings: { dns: 0, connect: 1.5, tls: 2, firstByte: 3, total: 9 } },
    ],
    ['an answer that leaves out what it does not know', { ...answered, retryAfter: undefined, timings: { total: 3 } }],
    ['headers and an excerpt', { ...answered, statusCode: 999, headers: { a: 'b' }, excerpt: 'no', retryAfter: '5' }],
  ])('%s', async (_, result) => {
    expect(await send(result)).toBe(result)
  })
})

/** Each of these could not be written into the log, or not be judged, and would be tried for ever. */
describe('takes for a failed send', () => {
  test.each([
    ['nothing', undefined],
    ['text', 'ok'],
    ['another kind', { ...answered, kind: 'maybe' }],
    ['no timings', { ...answered, timings: null }],
    ['no total', { ...answered, timings: { ...timings, total: null } }],
    ['an endless total', { ...answered, timings: { ...timings, total: Number.POSITIVE_INFINITY } }],
    ['a total that is no number', { ...answered, timings: { ...timings, total: Number.NaN } }],
    ['a total before its beginning', { ...answered, timings: { ...timings, total: -1 } }],
    ['a timing as text', { ...answered, timings: { ...timings, dns: '1},{2' } }],
    ['a timing beyond what is kept', { ...answered, timings: { ...timings, tls: 1e300 } }],
    ['no status code', { ...answered, statusCode: null }],
    ['a status code as text', { ...answered, statusCode: '200' }],
    ['a status code of five digits', { ...answered, statusCode: 70_000 }],
    ['a status code of two digits', { ...answered, statusCode: 20 }],
    ['no headers', { ...answered, headers: null }],
    ['a header that JSON cannot hold', { ...answered, headers: { a: 1n } }],
    ['an excerpt as bytes', { ...answered, excerpt: Buffer.from('no') }],
    ['an error without a code', { ...failed, code: undefined }],
    ['an error without a message', { ...failed, message: undefined }],
  ])('%s', async (_, result) => {
    expect(await send(result)).toMatchObject({ kind: 'error', code: 'SEND_FAILED' })
  })
})
