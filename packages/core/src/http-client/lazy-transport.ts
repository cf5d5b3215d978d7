import { PosthasteError } from '../errors.ts'
import type { Transport } from './transport.ts'

/** A transport that is made when it is first used, and closed only if it was. */
export function createLazyTransport(create: () => Transport): Transport {
  let transport: Transport | null = null
  let closed = false
  return {
    async send(request) {
      if (closed) throw new PosthasteError('STOPPED', 'This object was stopped: make another with createWebhooks().')
      transport ??= create()
      return await transport.send(request)
    },
    heldMs: (url) => transport?.heldMs?.(url) ?? 0,
    async close() {
      closed = true
      await transport?.close()
    },
  }
}
