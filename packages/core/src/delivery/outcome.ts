import type { OutboundResult, TransportErrorCode } from '../http-client/transport.ts'
import type { Attempt } from './attempt.ts'
import type { DeliveryItem } from './endpoint-state.ts'
import type { RetrySchedule } from './retry-schedule.ts'

/** What follows from an attempt. */
export type Verdict =
  /** Received. */
  | { kind: 'succeeded' }
  /** Send again at once, outside of the schedule: with the other secret, or on a fresh connection. */
  | { kind: 'again'; reason: 'other_secret' | 'fresh_connection' }
  /** Failed; the schedule has a next step, in `delayMs`. */
  | { kind: 'retry'; delayMs: number }
  /** Failed; the schedule is at its end, or the attempt used none of its steps. */
  | { kind: 'failed' }
  /** 410: the endpoint is to be disabled; this delivery is held and keeps its step. */
  | { kind: 'gone' }
  /** Failed by this host's own network, which is down: again in `delayMs`, and no step of the schedule is used. */
  | { kind: 'postponed'; delayMs: number }
  /** Nothing was sent: the lease did not cover it. The delivery stays as it is. */
  | { kind: 'not_sent' }

/** Longest `Retry-After` that is honoured, in ms (contract: "never earlier than asked up to 24 h"). */
const MAX_RETRY_AFTER_MS = 86_400_000

/** Errors that say that the receiver as a whole does not work, rather than that it disliked one request. */
const DOWN_ERRORS: ReadonlySet<TransportErrorCode> = new Set([
  'DNS_FAILED',
  'CONNECT_FAILED',
  'CONNECT_TIMEOUT',
  'TLS_FAILED',
  'TIMEOUT',
  'CONNECTION_RESET',
  'INVALID_RESPONSE',
  'HEADERS_TOO_LARGE',
  'ADDRESS_REFUSED',
  'SEND_FAILED',
  'PROXY_GATEWAY_FAILED',
  'PROXY_TIMEOUT',
])

/** Errors of this host's own network and settings: they say nothing about the receiver. */
const OWN_ERRORS: ReadonlySet<TransportErrorCode> = new Set([
  'PROXY_FAILED',
  'PROXY_AUTH_FAILED',
  'PROXY_REFUSED',
  'TLS_SETTINGS_FAILED',
  'SOURCE_ADDRESS_FAILED',
])

/** What only the proxy says of the receiver: enough to back it off, not to disable it. */
const HEARSAY: ReadonlySet<TransportErrorCode> = new Set(['PROXY_GATEWAY_FAILED', 'PROXY_TIMEOUT'])

/** An attempt that waits for this host's own network is made again no sooner than this, in ms. */
const LEAST_POSTPONEMENT_MS = 5_000

export function judge(attempt: Attempt, item: DeliveryItem, schedule: RetrySchedule, nowMs: number): Verdict {
  const { result } = attempt
  if (isSuccess(result)) return { kind: 'succeeded' }
  if (result.kind === 'error') {
    if (result.code === 'NOT_STARTED') return { kind: 'not_sent' }
    if (attempt.heldMs && isOwnFailure(result) && item.step !== null)
      return { kind: 'postponed', delayMs: Math.max(attempt.heldMs, LEAST_POSTPONEMENT_MS) }
    if (result.staleConnection && !item.freshConnection) return { kind: 'again', reason: 'fresh_connection' }
  } else {
    if (result.statusCode === 410) return { kind: 'gone' }
    const refused = result.statusCode === 400 || result.statusCode === 401 || result.statusCode === 403
    if (refused && attempt.hadOther && item.usePrevious === null) return { kind: 'again', reason: 'other_secret' }
  }
  const delayMs = item.step === null ? null : schedule.delayAfter(item.step, item.type)
  if (delayMs === null) return { kind: 'failed' }
  return { kind: 'retry', delayMs: Math.max(delayMs, retryAfterMs(result, nowMs) ?? 0) }
}

export function isSuccess(result: OutboundResult): boolean {
  return result.kind === 'response' && result.statusCode >= 200 && result.statusCode < 300
}

/** Whether a failure says "the endpoint is down": connect, TLS, timeout, 5xx, 429. Only these lead to backing it off. */
export function saysDown(result: OutboundResult): boolean {
  if (result.kind === 'error') return DOWN_ERRORS.has(result.code) && !result.staleConnection
  return result.statusCode >= 500 || result.statusCode === 429
}

/** Whether an attempt failed for reasons of this host's own, so that it must not count against the endpoint. */
export function isOwnFailure(result: OutboundResult): boolean {
  return result.kind === 'error' && OWN_ERRORS.has(result.code)
}

/** Whether a failure may lead to disabling the endpoint. */
export function countsForDisabling(result: OutboundResult): boolean {
  return result.kind === 'response' || !(OWN_ERRORS.has(result.code) || HEARSAY.has(result.code))
}

/**
 * The wait that a 429 or 503 asked for, in ms: seconds or an HTTP date (RFC 9110 section 10.2.3). Null for every other status,
 * and for what is neither.
 */
export function retryAfterMs(result: OutboundResult, nowMs: number): number | null {
  if (result.kind !== 'response' || result.retryAfter === null) return null
  if (result.statusCode !== 429 && result.statusCode !== 503) return null
  const text = result.retryAfter.trim()
  if (/^\d{1,10}$/.test(text)) return Math.min(Number(text) * 1_000, MAX_RETRY_AFTER_MS)
  // Date.parse takes much that is no HTTP date; those all begin with the name of a day.
  if (!/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*, /.test(text)) return null
  const at = Date.parse(text)
  return Number.isNaN(at) || at <= nowMs ? null : Math.min(at - nowMs, MAX_RETRY_AFTER_MS)
}
