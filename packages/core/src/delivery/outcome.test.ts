import { describe, expect, test } from 'vitest'
import type { OutboundResult, TransportErrorCode } from '../http-client/transport.ts'
import type { Attempt } from './attempt.ts'
import { type DeliveryItem, EndpointState } from './endpoint-state.ts'
import { countsForDisabling, isOwnFailure, judge, retryAfterMs, saysDown } from './outcome.ts'
import { createRetrySchedule, DEFAULT_RETRY_SCHEDULE } from './retry-schedule.ts'

const NOW = Date.parse('2026-11-23T12:00:00Z')
const timings = { dns: null, connect: null, tls: null, firstByte: 1, total: 2 }
const schedule = createRetrySchedule({ schedule: ['5s', '5m'], byEventType: {}, random: () => 0 })

function response(statusCode: number, retryAfter: string | null = null): OutboundResult {
  return { kind: 'response', statusCode, headers: {}, retryAfter, excerpt: null, timings }
}

function attempt(result: OutboundResult, more: Partial<Attempt> = {}): Attempt {
  return {
    number: 1,
    atMs: NOW,
    usedPrevious: false,
    configVersion: 1,
    hadOther: false,
    signatures: '',
    secretNumber: null,
    result,
    ...more,
  }
}

function item(more: Partial<DeliveryItem> = {}): DeliveryItem {
  const state = new EndpointState(1, 0, '00000000-0000-0000-0000-000000000000')
  const row = {
    endpoint: 1,
    id: 'd',
    seq: 1,
    eventId: 'e',
    type: 'a.b',
    dataText: '{}',
    occurredAtMs: NOW,
    envelope: 0 as const,
  }
  return Object.assign(state.addFresh(row) as DeliveryItem, more)
}

describe('what an answer means', () => {
  test.each([200, 201, 204, 299])('%i is success', (status) => {
    expect(judge(attempt(response(status)), item(), schedule, NOW)).toEqual({ kind: 'succeeded' })
  })

  test.each([300, 301, 302, 304, 307, 400, 401, 403, 404, 409, 422, 500, 502, 503])('%i is a failure', (status) => {
    expect(judge(attempt(response(status)), item(), schedule, NOW)).toEqual({ kind: 'retry', delayMs: 5_000 })
  })

  test('410 holds the delivery and disables the endpoint', () => {
    expect(judge(attempt(response(410)), item(), schedule, NOW)).toEqual({ kind: 'gone' })
  })

  test('the last step fails for good, and so does an attempt that uses none', () => {
    expect(judge(attempt(response(500)), item({ step: 2 }), schedule, NOW)).toEqual({ kind: 'failed' })
    expect(judge(attempt(response(500)), item({ step: null }), schedule, NOW)).toEqual({ kind: 'failed' })
  })

  test.each([400, 401, 403])('%i within an overlap is tried with the other secret, once', (status) => {
    const during = attempt(response(status), { hadOther: true })
    expect(judge(during, item(), schedule, NOW)).toEqual({ kind: 'again', reason: 'other_secret' })
    expect(judge(during, item({ usePrevious: true }), schedule, NOW)).toEqual({ kind: 'retry', delayMs: 5_000 })
  })

  test('404 within an overlap is no question of secrets', () => {
    expect(judge(attempt(response(404), { hadOther: true }), item(), schedule, NOW).kind).toBe('retry')
  })

  test('a kept-alive connection that was gone is tried on a fresh one, once', () => {
    const gone: OutboundResult = {
      kind: 'error',
      code: 'CONNECTION_RESET',
      message: '',
      staleConnection: true,
      timings,
    }
    expect(judge(attempt(gone), item(), schedule, NOW)).toEqual({ kind: 'again', reason: 'fresh_connection' })
    expect(judge(attempt(gone), item({ freshConnection: true }), schedule, NOW).kind).toBe('retry')
  })

  test('nothing was sent: nothing happened', () => {
    const none: OutboundResult = { kind: 'error', code: 'NOT_STARTED', message: '', staleConnection: false, timings }
    expect(judge(attempt(none), item(), schedule, NOW)).toEqual({ kind: 'not_sent' })
  })
})

describe('Retry-After', () => {
  test.each([
    ['120', 120_000],
    [' 7 ', 7_000],
    ['0', 0],
    ['9999999999', 86_400_000],
    ['Mon, 23 Nov 2026 12:01:00 GMT', 60_000],
    ['Mon, 23 Nov 2026 11:00:00 GMT', null],
    ['inf', null],
    ['-5', null],
    ['1.5', null],
    ['1e9', null],
    ['99999999999999999999', null],
    ['2026-11-23T12:01:00Z', null],
    ['', null],
  ])('%s', (text, expected) => {
    expect(retryAfterMs(response(503, text), NOW)).toBe(expected)
    expect(retryAfterMs(response(429, text), NOW)).toBe(expected)
    expect(retryAfterMs(response(500, text), NOW)).toBe(null)
  })

  test('never earlier than asked, never earlier than the schedule', () => {
    expect(judge(attempt(response(503, '60')), item(), schedule, NOW)).toEqual({ kind: 'retry', delayMs: 60_000 })
    expect(judge(attempt(response(503, '1')), item(), schedule, NOW)).toEqual({ kind: 'retry', delayMs: 5_000 })
  })
})

test('what says that an endpoint is down', () => {
  const error = (code: 'TIMEOUT' | 'NOT_STARTED' | 'CONNECTION_RESET', staleConnection = false): OutboundResult => ({
    kind: 'error',
    code,
    message: '',
    staleConnection,
    timings,
  })
  expect([500, 503, 429, 400, 404, 302].map((status) => saysDown(response(status)))).toEqual([
    true,
    true,
    true,
    false,
    false,
    false,
  ])
  expect(saysDown(error('TIMEOUT'))).toBe(true)
  expect(saysDown(error('NOT_STARTED'))).toBe(false)
  expect(saysDown(error('CONNECTION_RESET', true))).toBe(false)
})

describe('the schedule', () => {
  test('by default ten attempts over about 75.6 hours', () => {
    const standard = createRetrySchedule({ schedule: DEFAULT_RETRY_SCHEDULE, byEventType: {}, random: () => 0 })
    const delays: number[] = []
    for (let step = 0; ; step++) {
      const delay = standard.delayAfter(step, 'a.b')
      if (delay === null) break
      delays.push(delay)
    }
    expect(delays).toHaveLength(9)
    expect(delays.reduce((sum, delay) => sum + delay, 0) / 3_600_000).toBeCloseTo(75.585, 2)
  })

  test('jitter only delays, by a tenth at most', () => {
    const late = createRetrySchedule({ schedule: ['10s'], byEventType: {}, random: () => 0.999 })
    expect(late.delayAfter(0, 'a.b')).toBe(10_999)
  })

  test('an event type may have its own', () => {
    const special = createRetrySchedule({ schedule: ['1s'], byEventType: { 'a.b': [] }, random: () => 0 })
    expect(special.delayAfter(0, 'a.b')).toBe(null)
    expect(special.delayAfter(0, 'c.d')).toBe(1_000)
  })

  test.each([[['soon']], [['5']], [[-1]], ['5s']])('refuses %j', (bad) => {
    expect(() => createRetrySchedule({ schedule: bad as never, byEventType: {}, random: () => 0 })).toThrow(
      /retrySchedule/,
    )
  })
})

describe('failures of this host’s own network', () => {
  const failed = (code: TransportErrorCode): OutboundResult => ({
    kind: 'error',
    code,
    message: '',
    staleConnection: false,
    timings,
  })
  const OWN: TransportErrorCode[] = [
    'PROXY_FAILED',
    'PROXY_AUTH_FAILED',
    'PROXY_REFUSED',
    'TLS_SETTINGS_FAILED',
    'SOURCE_ADDRESS_FAILED',
  ]

  test.each(OWN)('%s says nothing of the endpoint, and is tried again', (code) => {
    expect([saysDown(failed(code)), countsForDisabling(failed(code)), isOwnFailure(failed(code))]).toEqual([
      false,
      false,
      true,
    ])
    expect(judge(attempt(failed(code)), item(), schedule, NOW)).toEqual({ kind: 'retry', delayMs: 5_000 })
  })

  test.each(OWN)('%s uses no step while the way out is down', (code) => {
    const down = attempt(failed(code), { heldMs: 30_000 })
    expect(judge(down, item({ step: 2 }), schedule, NOW)).toEqual({ kind: 'postponed', delayMs: 30_000 })
    expect(judge(attempt(failed(code), { heldMs: 1 }), item(), schedule, NOW)).toEqual({
      kind: 'postponed',
      delayMs: 5_000,
    })
    // Somebody asked for this one: it has an answer now.
    expect(judge(down, item({ step: null }), schedule, NOW)).toEqual({ kind: 'failed' })
    expect(judge(attempt(failed('TIMEOUT'), { heldMs: 30_000 }), item(), schedule, NOW).kind).toBe('retry')
  })

  test.each(['PROXY_GATEWAY_FAILED', 'PROXY_TIMEOUT'] as const)('%s backs off, and never disables', (code) => {
    expect([saysDown(failed(code)), countsForDisabling(failed(code)), isOwnFailure(failed(code))]).toEqual([
      true,
      false,
      false,
    ])
  })

  test('what the receiver does counts as ever', () => {
    expect(countsForDisabling(failed('TLS_FAILED'))).toBe(true)
    expect(countsForDisabling(response(500))).toBe(true)
  })
})
