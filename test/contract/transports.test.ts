import type { OutboundRequest, OutboundResult, Transport } from '@posthaste/core'
import { checkTransport, transportCases } from '@posthaste/core/testing'
import { describe, expect, test } from 'vitest'
import { fetchTransport } from '../../examples/network/src/fetch-transport.ts'
import { guardTransport } from '../../packages/core/src/http-client/guarded-transport.ts'
import { createHttpTransport } from '../../packages/core/src/http-client/http-transport.ts'
import { loopback } from '../support/hostile-transport.ts'
import { startReceiver } from '../support/receiver.ts'
import { underTest } from '../support/webhooks-under-test.ts'

describe.each([
  ['of our own', () => createHttpTransport({ policy: loopback })],
  ['of docs/network.md', fetchTransport],
  ['of docs/network.md, as the host’s', () => guardTransport(fetchTransport())],
])('the transport %s', (_name, create) => {
  test.each(transportCases)('$name', async ({ run }) => {
    await expect(run({ create })).resolves.toBeUndefined()
  })
})

describe('every case is failed by a transport with the fault that it is there for', () => {
  const faulty =
    (change: (request: OutboundRequest) => OutboundRequest, after = (result: OutboundResult) => result) =>
    () => {
      const own = fetchTransport()
      return { ...own, send: async (request: OutboundRequest) => after(await own.send(change(request))) }
    }
  const same = (request: OutboundRequest) => request
  const FAULTS: Record<string, () => Transport> = {
    'posts these bytes and headers': faulty((request) => ({ ...request, body: request.body.subarray(1) })),
    'keeps the answer of a failure': faulty(same, (result) => ({ ...result, retryAfter: null, excerpt: null })),
    'keeps the answer of a success where it is wanted': faulty((request) => ({ ...request, keepResponse: false })),
    'never follows a redirect': faulty(same, (result) => ({ ...result, statusCode: 404 })),
    'keeps no more than 16 KiB of an answer': faulty(same, (result) => ({ ...result, excerpt: 'a'.repeat(20_000) })),
    'ends at the deadline': faulty((request) => ({ ...request, deadlineMs: 8_000 })),
    'answers an error where the connection is lost': faulty(same, (result) => {
      if (result.kind === 'error') throw new Error('lost')
      return result
    }),
    'asks mayStart before anything is sent': faulty((request) => ({ ...request, mayStart: () => true })),
    'gives each of many at once its own answer': faulty((request) => ({
      ...request,
      url: request.url.replace(/\d+$/, '7'),
    })),
    'may be closed twice': () => {
      let closed = false
      return {
        ...fetchTransport(),
        async close() {
          if (closed) throw new Error('closed before')
          closed = true
        },
      }
    },
  }

  test.each(transportCases)('$name', async ({ name, run }) => {
    await expect(run({ create: FAULTS[name] as () => Transport })).rejects.toThrow()
  })

  test('the report says which', async () => {
    const report = await checkTransport({ create: FAULTS['asks mayStart before anything is sent'] as () => Transport })
    expect([report.passed, report.results.filter(({ outcome }) => outcome === 'failed').length]).toEqual([false, 1])
    expect((await checkTransport({ create: fetchTransport })).passed).toBe(true)
  })
})

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
