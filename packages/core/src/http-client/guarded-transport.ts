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

function isResult(result: unknown): result is OutboundResult {
  const { kind, timings, statusCode, headers, code, message } = (result ?? {}) as Record<string, unknown>
  if (typeof (timings as { total?: unknown } | null | undefined)?.total !== 'number') return false
  if (kind === 'error') return typeof code === 'string' && typeof message === 'string'
  return kind === 'response' && Number.isInteger(statusCode) && typeof headers === 'object' && headers !== null
}
