/** What the rest relies on of every `Transport`: run against ours, against the one of docs/network.md, and against any other. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { OutboundRequest, Transport } from '@posthaste/core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'

export interface ConformanceOptions {
  create(): Transport
}

const BODY = Buffer.from('{"event":"x","data":{"ä":"\u{1f600}"}}')

export function describeTransport(name: string, { create }: ConformanceOptions): void {
  describe(`the transport ${name}`, () => {
    let server: Server
    let origin: string
    let answer: (request: IncomingMessage, response: ServerResponse) => void
    let seen: { method: string; url: string; headers: IncomingMessage['headers']; body: Buffer }[]
    let transport: Transport

    beforeAll(async () => {
      server = createServer(async (request, response) => {
        const chunks: Buffer[] = await request.toArray()
        seen.push({
          method: request.method ?? '',
          url: request.url ?? '',
          headers: request.headers,
          body: Buffer.concat(chunks),
        })
        answer(request, response)
      })
      await once(server.listen(0, '127.0.0.1'), 'listening')
      origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    })
    afterAll(() => {
      server.closeAllConnections()
      server.close()
    })
    beforeEach(() => {
      seen = []
      answer = (_request, response) => void response.end('ok')
      transport = create()
    })
    afterEach(() => transport.close())

    const request = (more: Partial<OutboundRequest> = {}): OutboundRequest => ({
      url: `${origin}/hook?a=%20`,
      headers: [
        ['Content-Type', 'application/json'],
        ['webhook-id', 'evt_1'],
      ],
      body: BODY,
      deadlineMs: 10_000,
      ...more,
    })

    test('posts these bytes and headers, and answers the head of a success', async () => {
      const result = await transport.send(request())
      expect(result).toMatchObject({ kind: 'response', statusCode: 200, headers: {}, retryAfter: null, excerpt: null })
      expect(result.timings.total).toBeGreaterThan(0)
      expect(seen).toHaveLength(1)
      expect(seen[0]).toMatchObject({ method: 'POST', url: '/hook?a=%20', body: BODY })
      expect(seen[0]?.headers).toMatchObject({
        'content-type': 'application/json',
        'webhook-id': 'evt_1',
        'content-length': String(BODY.length),
      })
    })

    test('keeps the answer of a failure, and of a success where it is wanted', async () => {
      answer = (_request, response) => void response.writeHead(503, { 'Retry-After': '7', 'X-A': 'b' }).end('down')
      expect(await transport.send(request())).toMatchObject({
        kind: 'response',
        statusCode: 503,
        headers: { 'x-a': 'b' },
        retryAfter: '7',
        excerpt: 'down',
      })
      answer = (_request, response) => void response.end('hällo')
      expect(await transport.send(request({ keepResponse: true }))).toMatchObject({ statusCode: 200, excerpt: 'hällo' })
    })

    test('never follows a redirect', async () => {
      answer = (_request, response) => void response.writeHead(307, { Location: `${origin}/elsewhere` }).end()
      expect(await transport.send(request())).toMatchObject({ kind: 'response', statusCode: 307 })
      expect(seen).toHaveLength(1)
    })

    test('keeps no more than 16 KiB of an answer', async () => {
      answer = (_request, response) => void response.writeHead(500).end('a'.repeat(1_000_000))
      const result = await transport.send(request())
      expect(result).toMatchObject({ kind: 'response', statusCode: 500 })
      expect((result as { excerpt: string }).excerpt.length).toBeLessThanOrEqual(16_384)
    })

    test('ends at the deadline', async () => {
      answer = () => {}
      const result = await transport.send(request({ deadlineMs: 100 }))
      expect(result).toMatchObject({ kind: 'error', code: 'TIMEOUT', staleConnection: false })
    })

    test('is an error, and no rejection, where nobody answers', async () => {
      answer = (request) => void request.socket.destroy()
      expect(await transport.send(request())).toMatchObject({
        kind: 'error',
        code: expect.stringMatching(/^[A-Z_]+$/),
        message: expect.any(String),
      })
    })

    test('asks mayStart before anything is sent', async () => {
      const result = await transport.send(request({ mayStart: () => false }))
      expect(result).toMatchObject({ kind: 'error', code: 'NOT_STARTED' })
      expect(seen).toEqual([])
      expect(await transport.send(request({ mayStart: () => true }))).toMatchObject({ statusCode: 200 })
    })

    test('many at once each get their own answer', async () => {
      answer = (request, response) => void response.writeHead(200 + Number(request.url?.slice(1))).end()
      const results = await Promise.all(
        Array.from({ length: 50 }, (_, n) => transport.send(request({ url: `${origin}/${n}` }))),
      )
      expect(results.map((result) => (result.kind === 'response' ? result.statusCode - 200 : result.code))).toEqual(
        Array.from({ length: 50 }, (_, n) => n),
      )
    })

    test('close() may be called twice', async () => {
      await transport.send(request())
      await transport.close()
      await expect(transport.close()).resolves.toBeUndefined()
    })
  })
}
