import type { OutboundResult, Transport } from '@posthaste/core'
import { describe, expect, test } from 'vitest'
import { fetchTransport } from '../../examples/network/src/fetch-transport.ts'
import { guardTransport } from '../../packages/core/src/http-client/guarded-transport.ts'
import { createHttpTransport } from '../../packages/core/src/http-client/http-transport.ts'
import { loopback } from '../support/hostile-transport.ts'
import { startReceiver } from '../support/receiver.ts'
import { underTest } from '../support/webhooks-under-test.ts'
import { describeTransport } from './transport-conformance.ts'

describeTransport('of our own', { create: () => createHttpTransport({ policy: loopback }) })
describeTransport('of docs/network.md', { create: fetchTransport })
describeTransport('of docs/network.md, as the host’s', { create: () => guardTransport(fetchTransport()) })

describe('a transport that breaks its promises', () => {
  const request = { url: 'http://x.test/', headers: [], body: new Uint8Array(), deadlineMs: 50 }
  const broken = (send: () => unknown): Transport =>
    guardTransport({ send: send as Transport['send'], close: async () => {} })

  test.each<[string, string, () => unknown]>([
    [
      'throws',
      'SEND_FAILED',
      () => {
        throw new Error('secret')
      },
    ],
    [
      'rejects',
      'SEND_FAILED',
      async () => {
        throw Object.assign(new Error('secret'), { code: 'EPROTO' })
      },
    ],
    ['answers nothing', 'SEND_FAILED', async () => undefined],
    ['answers half a result', 'SEND_FAILED', async () => ({ kind: 'response', statusCode: 200 })],
    ['never ends', 'TIMEOUT', () => new Promise(() => {})],
  ])('%s: a result all the same', async (_how, code, send) => {
    const result = await broken(send).send(request)
    expect(result).toMatchObject({ kind: 'error', code, staleConnection: false })
    expect(result.timings.total).toBeGreaterThanOrEqual(0)
    expect(JSON.stringify(result)).not.toContain('secret')
  })

  test('its heldMs is asked, and may be broken too', () => {
    const held = (heldMs: (url: string) => number) =>
      guardTransport({ send: async () => ({}) as OutboundResult, close: async () => {}, heldMs }).heldMs?.(
        'http://x.test/',
      )
    expect(held((url) => url.length)).toBe(14)
    expect(held(() => -5)).toBe(0)
    expect(
      held(() => {
        throw new Error('no')
      }),
    ).toBe(0)
  })
})

test('deliveries go out through the host’s transport, which knows whose they are', async () => {
  const receiver = await startReceiver()
  const own = fetchTransport()
  const asked: unknown[] = []
  let heldMs = 60_000
  const host = await underTest({
    transport: {
      send: (request) => {
        asked.push([request.endpointId, request.account])
        return own.send(request)
      },
      close: () => own.close(),
      heldMs: () => heldMs,
    },
  })
  try {
    await host.webhooks.start()
    const { id } = await host.endpoint(receiver.url('/'))
    await host.emit(1)
    await host.dispatched()
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(asked).toEqual([])
    heldMs = 0
    await receiver.received('/', 1)
    expect(asked).toEqual([[id, 'default']])
  } finally {
    await host.stop()
    await receiver.close()
  }
})
