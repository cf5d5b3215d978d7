import { PosthasteError } from '../errors.ts'
import type { Transport } from './transport.ts'

/** A transport that is made when it is first used, and closed only if it was. */
export function createLazyTransport(create: () => Transport): Transport {
  let transport: Transport | null = null
  let closed = false
  return {
    send(request) {
      if (closed) return Promise.reject(stopped())
      transport ??= create()
      return transport.send(request)
    },
    heldMs: (url) => transport?.heldMs?.(url) ?? 0,
    async close() {
      closed = true
      await transport?.close()
    },
  }
}

function stopped(): PosthasteError {
  return new PosthasteError('STOPPED', 'This object was stopped: make another with createWebhooks().')
}
