import type { OutboundRequest, OutboundResult, Transport } from '@posthaste/core'

/**
 * A transport of your own, over the global `fetch`: for a runtime, a service mesh or a test that wants every request to go its
 * way. What ours does and this does not: look at addresses, tell stages apart, keep within a worker's lease to the byte.
 */
export function fetchTransport(): Transport {
  return {
    async send(request: OutboundRequest): Promise<OutboundResult> {
      const startedAt = performance.now()
      const timings = () => ({
        dns: null,
        connect: null,
        tls: null,
        firstByte: null,
        total: performance.now() - startedAt,
      })
      // A worker that lost its lease must not send: ask as late as you can.
      if (request.mayStart?.() === false)
        return { kind: 'error', code: 'NOT_STARTED', message: 'Stopped.', staleConnection: false, timings: timings() }
      try {
        const response = await fetch(request.url, {
          method: 'POST',
          headers: request.headers.map(([name, value]): [string, string] => [name, value]),
          body: request.body as Uint8Array<ArrayBuffer>,
          redirect: 'manual',
          signal: AbortSignal.timeout(request.deadlineMs),
        })
        const keep = !response.ok || request.keepResponse === true
        if (!keep) await response.body?.cancel()
        const excerpt = keep ? await beginningOf(response) : null
        return {
          kind: 'response',
          statusCode: response.status,
          headers: keep ? Object.fromEntries(response.headers) : {},
          retryAfter: response.headers.get('retry-after'),
          excerpt,
          timings: timings(),
        }
      } catch (error) {
        const isLate = error instanceof DOMException && error.name === 'TimeoutError'
        return {
          kind: 'error',
          code: isLate ? 'TIMEOUT' : 'SEND_FAILED',
          // For the log, so nothing of what the receiver sent.
          message: isLate ? `No answer within ${request.deadlineMs} ms.` : 'The request failed.',
          staleConnection: false,
          timings: timings(),
        }
      }
    },
    async close() {},
  }
}

/** The first 16 KiB of the body, as text. */
async function beginningOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk)
    length += chunk.length
    if (length >= 16_384) break
  }
  return Buffer.concat(chunks).subarray(0, 16_384).toString('utf8')
}
