import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { createHttpTransport } from '../../packages/core/src/http-client/http-transport.ts'
import type { ReceivedRequest } from '../support/hostile-receivers.ts'
import {
  answerOk,
  closeAfterTest,
  loopback,
  nameServer,
  OK,
  post,
  receiver,
  transport,
} from '../support/hostile-transport.ts'

async function httpServer(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closeAfterTest(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('a request', () => {
  test('arrives byte for byte, with the headers given and framing of our own', async () => {
    let seen: { url: string; method: string; raw: string[]; headers: IncomingHttpHeaders; body: Buffer } | undefined
    const origin = await httpServer(async (request, response) => {
      const chunks: Buffer[] = await request.toArray()
      const { url = '', method = '', rawHeaders, headers } = request
      seen = { url, method, raw: rawHeaders, headers, body: Buffer.concat(chunks) }
      response.end('ok')
    })
    const body = Buffer.from('{"event":"x","data":{"ä":"\u{1f600}"}}')
    const headers: Array<[string, string]> = [
      ['Content-Type', 'application/json'],
      ['X-Webhook-Signature', 'sha256=00'],
      ['webhook-id', 'evt_1'],
      ['X-Latin', 'é'],
      ['Content-Length', '3'],
      ['Host', 'evil.example'],
      ['Connection', 'close'],
      ['Transfer-Encoding', 'chunked'],
      ['TE', 'trailers'],
      ['Expect', '100-continue'],
    ]
    const result = await transport().send(post(`${origin}/hook/%C3%A4?x=1&y=%20`, { headers, body }))
    expect(result).toMatchObject({ kind: 'response', statusCode: 200, excerpt: null, headers: {} })
    expect(seen).toMatchObject({ url: '/hook/%C3%A4?x=1&y=%20', method: 'POST', body })
    expect(seen?.headers).toMatchObject({
      'content-length': String(body.length),
      host: new URL(origin).host,
      connection: 'keep-alive',
    })
    expect(seen?.raw.slice(4, -2)).toEqual(headers.slice(0, 4).flat())
  })

  test.each(['?to=a/b', '/?to=a/b', '?/', '/p?q=/r', ''])('the path of %j is the same each time', async (rest) => {
    const { port, received } = await receiver()
    const sender = transport()
    for (let n = 0; n < 3; n++) await sender.send(post(`http://127.0.0.1:${port}${rest}`))
    const expected = new URL(`http://x${rest}`)
    const lines = [...received().matchAll(/POST (\S+) HTTP/g)].map(([, path]) => path)
    expect(lines).toEqual(Array(3).fill(expected.pathname + expected.search))
  })

  test('an empty body, and a body that is a view of a larger buffer', async () => {
    const { url, received } = await receiver()
    const one = transport()
    await one.send(post(url, { body: new Uint8Array() }))
    await one.send(post(url, { body: new TextEncoder().encode('__body__').subarray(2, 6) }))
    expect(received()).toMatch(/content-length: 0\r\n\r\nPOST[\s\S]*content-length: 4\r\n\r\nbody$/)
  })

  test.each([
    [[['X-Bad', 'a\r\nX-Evil: 1']]],
    [[['X-Bad\r\nX-Evil', '1']]],
    [[['X-Bad', '\u{1f600}']]],
    [[['', 'x']]],
  ] as Array<[Array<[string, string]>]>)('headers that cannot be sent (%j) fail without a byte', async (headers) => {
    const { url, received } = await receiver()
    const one = transport()
    expect(await one.send(post(url, { headers }))).toMatchObject({ kind: 'error', code: 'SEND_FAILED' })
    expect(await one.send(post(url))).toMatchObject({ statusCode: 200 })
    expect(received()).not.toContain('Bad')
  })

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('a deadline of %d is refused', async (deadlineMs) => {
    expect(await transport().send(post('http://127.0.0.1:1/', { deadlineMs }))).toMatchObject({ code: 'SEND_FAILED' })
  })

  test('a response that is wanted is kept, also of a success', async () => {
    const origin = await httpServer((_request, response) => void response.setHeader('X-A', '1').end('hällo'))
    const result = await transport().send(post(origin, { keepResponse: true }))
    expect(result).toMatchObject({ statusCode: 200, excerpt: 'hällo', headers: { 'x-a': '1' } })
  })

  test('mayStart is asked when bytes go out; false sends nothing and keeps the connection', async () => {
    const { url, requests, connections } = await receiver()
    const one = transport()
    for (const mayStart of [
      () => false,
      () => {
        throw new Error('lost')
      },
    ]) {
      const result = await one.send(post(url, { mayStart }))
      expect(result).toMatchObject({ kind: 'error', code: 'NOT_STARTED', staleConnection: false })
    }
    expect(requests()).toBe(0)
    expect(await one.send(post(url, { mayStart: () => true }))).toMatchObject({ statusCode: 200 })
    expect([requests(), connections()]).toEqual([1, 1])
  })

  test('mayStart is not asked while the request waits for a connection', async () => {
    const waiting: ReceivedRequest[] = []
    const { url } = await receiver((request) => void waiting.push(request))
    const one = transport({ connectionsPerOrigin: 1 })
    const first = one.send(post(url))
    let asked = 0
    const second = one.send(post(url, { mayStart: () => ++asked > 0 }))
    await expect.poll(() => waiting.length).toBe(1)
    expect(asked).toBe(0)
    for (const request of waiting) answerOk(request)
    await first
    await expect.poll(() => waiting.length).toBe(2)
    expect(asked).toBe(1)
    answerOk(waiting[1] as ReceivedRequest)
    expect(await second).toMatchObject({ statusCode: 200 })
  })
})

describe('connections', () => {
  test('are reused, and only a fresh one has connect timings', async () => {
    const { port, connections } = await receiver()
    const lookup = nameServer(['127.0.0.1'])
    const one = transport({ lookup })
    const url = `http://receiver.test:${port}/`
    const first = await one.send(post(url))
    expect(first.timings).toMatchObject({ dns: expect.any(Number), connect: expect.any(Number), tls: null })
    const second = await one.send(post(url))
    expect(second.timings).toMatchObject({ dns: null, connect: null, tls: null, firstByte: expect.any(Number) })
    const third = await one.send(post(url, { freshConnection: true }))
    expect(third.timings).toMatchObject({ dns: expect.any(Number), connect: expect.any(Number) })
    expect([connections(), lookup.asked.length]).toEqual([2, 2])
    for (const { timings } of [first, second, third])
      expect(timings.total).toBeGreaterThanOrEqual(timings.firstByte ?? 0)
  })

  test('timings are those of the request, under concurrency', async () => {
    const { url, connections } = await receiver(({ socket, request, connection }) => {
      setTimeout(() => socket.write(OK), (connection * 7 + request * 3) % 10)
    })
    const one = transport({ connectionsPerOrigin: 7 })
    const results = await Promise.all(Array.from({ length: 200 }, () => one.send(post(url))))
    expect(results.every((result) => result.kind === 'response')).toBe(true)
    expect(connections()).toBe(7)
    expect(results.filter(({ timings }) => timings.connect !== null)).toHaveLength(7)
  })

  test('never more than the limit; the rest wait in order and within their deadlines', async () => {
    let open = 0
    let most = 0
    const order: string[] = []
    const origin = await httpServer((request, response) => {
      order.push(request.url ?? '')
      most = Math.max(most, ++open)
      setTimeout(() => {
        open--
        response.end('ok')
      }, 20)
    })
    const one = transport({ connectionsPerOrigin: 2 })
    const late = Array.from({ length: 6 }, (_, index) => one.send(post(`${origin}/${index}`)))
    const hopeless = one.send(post(`${origin}/hopeless`, { deadlineMs: 10 }))
    expect(await hopeless).toMatchObject({
      kind: 'error',
      code: 'TIMEOUT',
      timings: { connect: null, firstByte: null },
    })
    expect((await Promise.all(late)).every((result) => result.kind === 'response')).toBe(true)
    expect(most).toBe(2)
    expect(order.slice(2)).toEqual(['/2', '/3', '/4', '/5'])
  })

  test('who waits for a connection is not passed by who sends again and again', async () => {
    const { url, received } = await receiver()
    const one = transport({ connectionsPerOrigin: 1 })
    const sendOften = async (name: string) => {
      for (let round = 0; round < 5; round++) await one.send(post(url, { headers: [['X-Sender', name]] }))
    }
    await Promise.all([sendOften('a'), sendOften('b'), sendOften('c')])
    expect([...received().matchAll(/X-Sender: (.)/g)].map((match) => match[1]).join('')).toBe('abc'.repeat(5))
  })

  test('the longest idle are closed beyond the limit over all origins', async () => {
    const receivers = await Promise.all([receiver(), receiver(), receiver()])
    const one = transport({ maxIdleConnections: 2 })
    for (const { url } of receivers) await one.send(post(url))
    await receivers[0]?.allClosed()
    for (const { url } of receivers.slice(1)) {
      expect((await one.send(post(url))).timings.connect, 'still open').toBeNull()
    }
    expect((await one.send(post(receivers[0]?.url ?? ''))).timings.connect).not.toBeNull()
  })

  test('idle ones are closed after keepAliveMs', async () => {
    const { url, allClosed, connections } = await receiver()
    const one = transport({ keepAliveMs: 30 })
    await one.send(post(url))
    await allClosed()
    expect(await one.send(post(url))).toMatchObject({ statusCode: 200 })
    expect(connections()).toBe(2)
  })

  test('a receiver that closes after every answer', async () => {
    const { url, connections } = await receiver(({ socket }) => {
      socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
    })
    const one = transport({ connectionsPerOrigin: 3 })
    for (let round = 0; round < 3; round++) {
      const results = await Promise.all(Array.from({ length: 5 }, () => one.send(post(url))))
      for (const result of results) {
        // A connect of its own, also where it was opened for a request that was already waiting.
        expect(result).toMatchObject({ statusCode: 200, timings: { connect: expect.any(Number) } })
      }
    }
    expect(connections()).toBe(15)
  })

  test.each([
    ['closed', (request: ReceivedRequest) => void request.socket.end()],
    ['reset', (request: ReceivedRequest) => void request.socket.resetAndDestroy()],
  ])('a reused one that is %s before an answer is called stale, a fresh one is not', async (_how, lose) => {
    const { url } = await receiver((request) => (request.request === 1 ? answerOk(request) : lose(request)))
    const one = transport()
    await one.send(post(url))
    const stale = await one.send(post(url))
    expect(stale).toMatchObject({ kind: 'error', code: 'CONNECTION_RESET', staleConnection: true })
    expect(stale.timings).toMatchObject({ connect: null, firstByte: null })
    expect(await one.send(post(url, { freshConnection: true }))).toMatchObject({ statusCode: 200 })
  })

  test('a reused one that is lost within the answer is not stale', async () => {
    const { url } = await receiver(
      ({ socket, request }) => void socket[request === 1 ? 'write' : 'end'](request === 1 ? OK : 'HTTP/1.1 2'),
    )
    const one = transport()
    await one.send(post(url))
    expect(await one.send(post(url))).toMatchObject({ code: 'CONNECTION_RESET', staleConnection: false })
  })

  test('bytes after the answer are not taken for the answer of the next request', async () => {
    const { url } = await receiver(({ socket, connection }) => {
      socket.write(connection === 1 ? `${OK}HTTP/1.1 418 Smuggled\r\nContent-Length: 0\r\n\r\n` : OK)
    })
    const one = transport({ connectionsPerOrigin: 1 })
    const results = await Promise.all([one.send(post(url)), one.send(post(url)), one.send(post(url))])
    expect(results.map((result) => result.kind === 'response' && result.statusCode)).toEqual([200, 200, 200])
  })

  test('close ends what is under way, refuses what comes, and may be repeated', async () => {
    const { url, requests } = await receiver(() => {})
    const one = transport({ connectionsPerOrigin: 1 })
    const sends = [one.send(post(url)), one.send(post(url))]
    await expect.poll(requests).toBe(1)
    await one.close()
    for (const result of await Promise.all(sends)) expect(result).toMatchObject({ kind: 'error', code: 'SEND_FAILED' })
    expect(await one.send(post(url))).toMatchObject({ kind: 'error', code: 'SEND_FAILED' })
    await one.close()
  })
})

test.each([{ connectionsPerOrigin: 0 }, { maxIdleConnections: 1.5 }, { keepAliveMs: -1 }])(
  '%o is refused',
  (options) => {
    expect(() => createHttpTransport({ policy: loopback, ...options })).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    )
  },
)
