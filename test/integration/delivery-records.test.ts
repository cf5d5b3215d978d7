/** What is kept of each attempt, and who hears of it. */
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LifecycleEventName } from '@posthaste/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'
import { type TestOptions, type UnderTest, underTest } from '../support/webhooks-under-test.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())

async function withHost(options: TestOptions, work: (host: UnderTest) => Promise<void>): Promise<void> {
  const host = await underTest(options)
  try {
    await host.webhooks.start()
    await work(host)
  } finally {
    receiver.release(200)
    await host.stop()
  }
}

interface AttemptRow extends Record<string, unknown> {
  at: Date
}

async function attemptsOf(host: UnderTest, endpoint: string, count = 1): Promise<AttemptRow[]> {
  const number = await host.numberOf(endpoint)
  const read = async () => [
    ...(await host.sql<AttemptRow[]>`select * from posthaste.attempts where endpoint = ${number} order by at, number`),
  ]
  await expect.poll(read, { timeout: 5_000 }).toHaveLength(count)
  return await read()
}

/** What the log shows of each attempt's request, the oldest first, of all deliveries of an endpoint. */
async function shownRequests(host: Pick<UnderTest, 'webhooks'>, endpoint: string) {
  const { data } = await host.webhooks.deliveries.list('default', endpoint)
  const all = await Promise.all(data.map(({ id }) => host.webhooks.deliveries.get('default', id)))
  return all.flatMap(({ attempts }) => attempts.map(({ request }) => request)).toReversed()
}

/** The same of a request that arrived. */
function asShown({ headers, body }: ReceivedRequest) {
  const named = Object.entries(headers).filter(([name]) =>
    /^(content-type|user-agent|x-webhook-.*|webhook-.*)$/.test(name),
  )
  return {
    headers: Object.fromEntries(named.map(([name, value]) => [shownName(name), value])),
    body: body.toString(),
  }
}

function shownName(name: string): string {
  return name.startsWith('webhook-') ? name : name.replace(/(^|-)[a-z]/g, (first) => first.toUpperCase())
}

describe('the signatures of an attempt', () => {
  test.each(['posthaste', 'standard'] as const)(
    'are shown as they were sent, whatever became of the secret: %s',
    async (envelope) => {
      await withHost({ envelope }, async (host) => {
        const path = `/kept-${envelope}`
        receiver.answer(path, { status: 200 })
        const { id } = await host.endpoint(receiver.url(path))
        const sent: ReceivedRequest[] = []
        const deliver = async () => {
          await host.emit(sent.length)
          sent.push((await receiver.received(path, sent.length + 1)).at(-1)!)
          await attemptsOf(host, id, sent.length)
        }
        await deliver()
        // Both secrets sign.
        await host.webhooks.endpoints.rotateSecret('default', id, { overlap_seconds: 3_600 })
        await expect
          .poll(async () => {
            await deliver()
            return sent.at(-1)?.headers['webhook-signature']?.split(' ').length
          })
          .toBe(2)
        // The one before is over at once.
        await host.webhooks.endpoints.rotateSecret('default', id, { overlap_seconds: 0 })
        await expect
          .poll(async () => {
            await deliver()
            return sent.at(-1)?.headers['webhook-signature']?.split(' ').length
          })
          .toBe(1)
        const rows = await attemptsOf(host, id, sent.length)
        expect(new Set(rows.map((row) => row.secret_number))).toEqual(new Set([null, 3]))
        expect(await shownRequests(host, id)).toEqual(sent.map(asShown))
        await host.webhooks.endpoints.remove('default', id)
        expect(await shownRequests(host, id)).toEqual(sent.map(asShown))
        // Without the key only what is kept can be shown.
        const secretKeys = { current: 'other', keys: { other: Buffer.alloc(32, 9) } }
        const blind = { webhooks: host.another({ envelope, secretKeys }) }
        const isKept = ({ headers }: ReceivedRequest) => headers['webhook-signature']?.includes(' ')
        expect(await shownRequests(blind, id)).toEqual(
          sent.map((request) => (isKept(request) ? asShown(request) : null)),
        )
      })
    },
  )
})

describe('an attempt', () => {
  test('that succeeded: status, timings, signatures, and nothing of the answer', async () => {
    await withHost({}, async (host) => {
      receiver.answer('/good', { status: 202, headers: { 'X-Private': 'yes' }, body: 'thanks' })
      const { id } = await host.endpoint(receiver.url('/good'), { max_concurrency: 1 })
      const before = Date.now()
      await host.emit(1)
      const [request] = await receiver.received('/good', 1)
      const [first] = (await attemptsOf(host, id)) as [AttemptRow]
      expect(first).toMatchObject({
        number: 1,
        outcome: 1,
        final: true,
        step: 0,
        status: 202,
        error: null,
        detail: null,
        response_headers: null,
        response_excerpt: null,
        tls_ms: null,
      })
      expect(first.at.getTime()).toBeGreaterThanOrEqual(before - 1)
      expect(first.at.getTime()).toBeLessThanOrEqual(Date.now() + 1)
      for (const part of ['connect_ms', 'first_byte_ms', 'total_ms']) {
        expect([part, typeof first[part]]).toEqual([part, 'number'])
        expect(first[part]).toBeGreaterThanOrEqual(0)
      }
      expect(first.total_ms as number).toBeGreaterThanOrEqual(first.first_byte_ms as number)
      // Nor the signatures: they follow from the secret, and the log shows the request as it was.
      expect([first.signatures, first.seq]).toEqual([null, null])
      expect(await shownRequests(host, id)).toEqual([asShown(request!)])
      await host.emit(2)
      const second = (await attemptsOf(host, id, 2))[1]!
      // The connection was used again: nothing was looked up and nothing connected.
      expect([second.dns_ms, second.connect_ms]).toEqual([null, null])
    })
  })

  test('that failed: its answer, with what Postgres cannot hold replaced, at most 16 KiB of it', async () => {
    await withHost({}, async (host) => {
      receiver.answer('/bad', {
        status: 422,
        headers: { 'Content-Type': 'text/plain', 'X-Why': 'because' },
        body: `no\u0000\ud83d ${'ä'.repeat(20_000)}`,
      })
      const { id } = await host.endpoint(receiver.url('/bad'))
      await host.emit(1)
      const [row] = (await attemptsOf(host, id)) as [AttemptRow]
      expect(row).toMatchObject({ outcome: 2, final: false, status: 422, error: 'HTTP_422' })
      expect(JSON.parse(row.response_headers as string)).toMatchObject({ 'x-why': 'because' })
      expect(row.response_excerpt).toMatch(/^no\ufffd+ ä+/)
      expect(Buffer.byteLength(row.response_excerpt as string)).toBeLessThanOrEqual(16 * 1024 + 4)
    })
  })

  test('that failed without an answer: a code that says where', async () => {
    await withHost({ http: { deadline: '1s' }, worker: { lease: '2s' } }, async (host) => {
      const closed = createServer()
      await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
      const { port } = closed.address() as { port: number }
      await new Promise((resolve) => closed.close(resolve))
      receiver.answer('/hang', 'hang')
      receiver.answer('/reset', 'reset')
      const expected: [url: string, code: string][] = [
        [`http://127.0.0.1:${port}/`, 'CONNECT_FAILED'],
        [receiver.url('/hang'), 'TIMEOUT'],
        [receiver.url('/reset'), 'CONNECTION_RESET'],
        [receiver.url('/tls').replace('http:', 'https:'), 'TLS_FAILED'],
        ['http://does-not-exist.invalid/', 'DNS_FAILED'],
      ]
      const endpoints: string[] = []
      for (const [url] of expected) endpoints.push((await host.endpoint(url)).id)
      await host.emit(1)
      for (const [index, [, code]] of expected.entries()) {
        const [row] = (await attemptsOf(host, endpoints[index]!)) as [AttemptRow]
        expect(row).toMatchObject({ outcome: 2, final: false, status: null, error: code, response_excerpt: null })
        expect(row.detail).toEqual(expect.any(String))
        expect(row.total_ms as number).toBeLessThan(3_000)
      }
    })
  })

  test.each(['all', 'none'] as const)("keepResponses: '%s'", async (keepResponses) => {
    await withHost({ keepResponses }, async (host) => {
      receiver.answer('/keep', ({ data }) => ({ status: data.n === 1 ? 200 : 404, body: `body ${data.n}` }))
      const { id } = await host.endpoint(receiver.url('/keep'), { ordering: 'fifo' })
      await host.emit(1, 2)
      const rows = await attemptsOf(host, id, 2)
      expect(rows.map((row) => row.response_excerpt)).toEqual(
        keepResponses === 'all' ? ['body 1', 'body 2'] : [null, null],
      )
    })
  })
})

test('listeners that throw or reject disturb neither delivery nor other listeners, and are logged', async () => {
  await withHost({ retrySchedule: ['1h'] }, async (host) => {
    const names: LifecycleEventName[] = [
      'delivery.succeeded',
      'delivery.failed',
      'attempt.failed',
      'endpoint.disabled',
      'endpoint.degraded',
      'endpoint.recovered',
      'events.dispatched',
    ]
    const heard: string[] = []
    for (const name of names) {
      host.webhooks.events.on(name, () => {
        throw new Error('a listener throws')
      })
      host.webhooks.events.on(name, (async () => {
        await sleep(1)
        throw new Error('a listener rejects')
      }) as () => void)
      host.webhooks.events.on(name, () => heard.push(name))
    }
    receiver.answer('/listeners', ({ data }) => (data.n === 2 ? 404 : data.n === 4 ? 410 : 200))
    const { id } = await host.endpoint(receiver.url('/listeners'), { max_concurrency: 1 })
    for (const n of [1, 2, 3, 4]) {
      await host.emit(n)
      await receiver.received('/listeners', n)
    }
    await attemptsOf(host, id, 4)
    await expect
      .poll(() => heard.toSorted())
      .toEqual(
        [
          'attempt.failed',
          'attempt.failed',
          'delivery.succeeded',
          'delivery.succeeded',
          'endpoint.disabled',
          ...heard.filter((name) => name === 'events.dispatched'),
        ].toSorted(),
      )
    await expect.poll(() => host.log.filter((line) => line.includes('a listener throws')).length).toBeGreaterThan(4)
    expect(host.log.some((line) => line.includes('a listener rejects'))).toBe(true)
  })
})

test('a listener that was taken off hears nothing more; one for once hears once', async () => {
  await withHost({}, async (host) => {
    const heard: string[] = []
    const off = () => void heard.push('off')
    host.webhooks.events.on('delivery.succeeded', off)
    host.webhooks.events.once('delivery.succeeded', () => void heard.push('once'))
    host.webhooks.events.on('delivery.succeeded', () => void heard.push('on'))
    const { id } = await host.endpoint(receiver.url('/off'))
    await host.emit(1)
    await expect.poll(() => heard).toEqual(['off', 'once', 'on'])
    host.webhooks.events.off('delivery.succeeded', off)
    await host.emit(2)
    await attemptsOf(host, id, 2)
    await expect.poll(() => heard).toEqual(['off', 'once', 'on', 'on'])
  })
})
