import { type Clock, systemClock } from '../clock.ts'
import type { OutboundResult, Transport, TransportErrorCode } from './transport.ts'
import { errorCodeOf } from './transport-failure.ts'

/**
 * Holds a transport of the host's to what the rest relies on: a send always ends, within its deadline, as a result of the
 * right form. What is thrown becomes `SEND_FAILED`; what is late becomes `TIMEOUT`, and is ignored when it comes.
 */
export function guardTransport(transport: Transport, clock: Clock = systemClock): Transport {
  const { heldMs } = transport
  return {
    send(request) {
      const startedAt = clock.monotonic()
      const failed = (code: TransportErrorCode, message: string): OutboundResult => ({
        kind: 'error',
        code,
        message,
        staleConnection: false,
        timings: { dns: null, connect: null, tls: null, firstByte: null, total: clock.monotonic() - startedAt },
      })
      return new Promise((resolve) => {
        const late = setTimeout(
          () => resolve(failed('TIMEOUT', `The transport did not end within ${request.deadlineMs} ms.`)),
          request.deadlineMs,
        )
        const end = (result: OutboundResult) => {
          clearTimeout(late)
          resolve(result)
        }
        // An async function, so that a transport that throws at once is as one that rejects.
        void (async () => await transport.send(request))().then(
          (result) => end(isResult(result) ? result : failed('SEND_FAILED', 'The transport answered no result.')),
          (error: unknown) => end(failed('SEND_FAILED', `The transport failed (${errorCodeOf(error)}).`)),
        )
      })
    },
    close: async () => await transport.close(),
    ...(heldMs === undefined ? {} : { heldMs: (url: string) => positiveOrZero(() => heldMs.call(transport, url)) }),
  }
}

function positiveOrZero(ask: () => number): number {
  try {
    return Math.max(0, ask())
  } catch {
    return 0
  }
}

/** Of the right form, and within what the log can hold: what cannot be recorded would be tried to be recorded for ever. */
function isResult(result: unknown): result is OutboundResult {
  const { kind, timings, code, message, ...answer } = (result ?? {}) as Record<string, unknown>
  if (!areTimings(timings)) return false
  if (kind === 'error') return typeof code === 'string' && typeof message === 'string'
  if (kind !== 'response' || !isStatusCode(answer.statusCode)) return false
  return areHeaders(answer.headers) && isTextOrNone(answer.excerpt) && isTextOrNone(answer.retryAfter)
}

function areHeaders(headers: unknown): boolean {
  if (typeof headers !== 'object' || headers === null) return false
  return Object.values(headers).every((value) => typeof value === 'string')
}

function isTextOrNone(value: unknown): boolean {
  return value == null || typeof value === 'string'
}

/** Three digits (RFC 9110 section 15). */
function isStatusCode(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 100 && (value as number) <= 999
}

function areTimings(timings: unknown): boolean {
  if (typeof timings !== 'object' || timings === null) return false
  const { total, dns, connect, tls, firstByte } = timings as Record<string, unknown>
  return isDuration(total) && [dns, connect, tls, firstByte].every((value) => value == null || isDuration(value))
}

/** In ms; a deadline is never a year. */
function isDuration(value: unknown): boolean {
  return typeof value === 'number' && value >= 0 && value < 365 * 86_400_000
}
