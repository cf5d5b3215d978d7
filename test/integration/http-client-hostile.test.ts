import { once } from 'node:events'
import { createServer } from 'node:net'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { DRAIN_MS } from '../../packages/core/src/http-client/exchange.ts'
import type { OutboundRequest, OutboundResult } from '../../packages/core/src/http-client/transport.ts'
import { type ReceivedRequest, writeForever, writeSlowly } from '../support/hostile-receivers.ts'
import { post as postWithinSeconds, receiver, transport } from '../support/hostile-transport.ts'

/** Receivers that do what receivers must not do. Each must end as one clear result, in time, whatever it sends. */

const DEADLINE_MS = 200
/** A timer of a busy machine may be late; an unheeded deadline would be 15 s or for ever. */
const LATE_MS = 400

/** As everywhere, with a deadline so short that a test may wait for it. */
function post(url: string, more: Partial<OutboundRequest> = {}): OutboundRequest {
  return postWithinSeconds(url, { deadlineMs: DEADLINE_MS, ...more })
}

async function timed(send: () => Promise<OutboundResult>): Promise<{ result: OutboundResult; tookMs: number }> {
  const startedAt = performance.now()
  const result = await send()
  return { result, tookMs: performance.now() - startedAt }
}

describe('before there is an answer', () => {
  const cases: Array<[name: string, code: string, answer: (request: ReceivedRequest) => void]> = [
    ['never answers', 'TIMEOUT', () => {}],
    ['drips the head', 'TIMEOUT', ({ socket }) => writeSlowly(socket, 'HTTP/1.1 200 Perfectly fine\r\n\r\n', 20)],
    [
      'drips headers',
      'TIMEOUT',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 OK\r\n')
        writeForever(socket, 'a: b\r\n', 10)
      },
    ],
    ['closes early', 'CONNECTION_RESET', ({ socket }) => void socket.end()],
    ['resets', 'CONNECTION_RESET', ({ socket }) => void socket.resetAndDestroy()],
    ['closes within the head', 'CONNECTION_RESET', ({ socket }) => void socket.end('HTTP/1.1 200 OK\r\nContent-')],
    ['is not HTTP', 'INVALID_RESPONSE', ({ socket }) => void socket.write('SSH-2.0-OpenSSH_9.9\r\n')],
    ['answers HTTP/2', 'INVALID_RESPONSE', ({ socket }) => void socket.write(Buffer.from('000012040000000000', 'hex'))],
    ['has a bad status', 'INVALID_RESPONSE', ({ socket }) => void socket.write('HTTP/1.1 20 OK\r\n\r\n')],
    [
      'has two lengths',
      'INVALID_RESPONSE',
      ({ socket }) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx'),
    ],
    [
      'has a NUL in a header',
      'INVALID_RESPONSE',
      ({ socket }) => void socket.write('HTTP/1.1 200 OK\r\nX: a\u0000b\r\n\r\n'),
    ],
    [
      'has huge headers',
      'HEADERS_TOO_LARGE',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 OK\r\n')
        writeForever(socket, `X-Fill: ${'a'.repeat(1_000)}\r\n`, 0)
      },
    ],
    [
      'has one huge header',
      'HEADERS_TOO_LARGE',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 OK\r\nX-Fill: ')
        writeForever(socket, 'a'.repeat(10_000), 0)
      },
    ],
    [
      'has an endless reason',
      'HEADERS_TOO_LARGE',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 ')
        writeForever(socket, 'OK '.repeat(10_000), 1)
      },
    ],
    [
      'floods with 103',
      'INVALID_RESPONSE',
      ({ socket }) => writeForever(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n', 0),
    ],
    ['drips 103', 'TIMEOUT', ({ socket }) => writeForever(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n', 30)],
    [
      'switches protocols',
      'INVALID_RESPONSE',
      ({ socket }) =>
        void socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'),
    ],
    ['only continues', 'TIMEOUT', ({ socket }) => void socket.write('HTTP/1.1 100 Continue\r\n\r\n')],
  ]
  test.each(cases)('a receiver that %s: %s', async (_name, code, answer) => {
    const { url, allClosed } = await receiver(answer)
    const { result, tookMs } = await timed(() => transport().send(post(url)))
    expect(result).toMatchObject({ kind: 'error', code, staleConnection: false, timings: { dns: null, tls: null } })
    expect(tookMs).toBeLessThan(DEADLINE_MS + LATE_MS)
    if (code === 'TIMEOUT') expect(tookMs).toBeGreaterThanOrEqual(DEADLINE_MS - 2)
    // No message repeats what a receiver sent.
    expect(JSON.stringify(result)).not.toMatch(/SSH|Early|aaaa|OK/)
    await allClosed()
  })

  test('interim answers before the final one are passed over', async () => {
    const { url } = await receiver(({ socket }) => {
      socket.write(
        'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n',
      )
      socket.write('HTTP/1.1 204 No Content\r\n\r\n')
    })
    expect(await transport().send(post(url))).toMatchObject({ kind: 'response', statusCode: 204 })
  })
})

describe('a head of a success decides, whatever its body does', () => {
  const cases: Array<[name: string, answer: (request: ReceivedRequest) => void]> = [
    ['never comes', ({ socket }) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n')],
    ['is cut off', ({ socket }) => void socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab')],
    [
      'is reset',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab', () =>
          setTimeout(() => socket.resetAndDestroy(), 10),
        )
      },
    ],
    [
      'is endless',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        writeForever(socket, Buffer.alloc(65_536, 'x'), 0)
      },
    ],
    [
      'drips',
      ({ socket }) => {
        socket.write('HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n')
        writeForever(socket, '1\r\nx\r\n', 10)
      },
    ],
    [
      'is badly chunked',
      ({ socket }) => void socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n'),
    ],
    [
      'has endless chunk extensions',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;')
        writeForever(socket, 'x'.repeat(10_000), 1)
      },
    ],
    [
      'has endless trailers',
      ({ socket }) => {
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n')
        writeForever(socket, 'X: y\r\n', 0)
      },
    ],
  ]
  test.each(cases)('a body that %s', async (_name, answer) => {
    const { url, allClosed } = await receiver(answer)
    const startedAt = performance.now()
    const { result, tookMs } = await timed(() => transport().send(post(url, { deadlineMs: 15_000 })))
    expect(result).toMatchObject({ kind: 'response', headers: {}, excerpt: null, retryAfter: null })
    expect(tookMs).toBeLessThan(LATE_MS)
    // The connection does not outlive the quarter of a second in which a body is read for the sake of keep-alive.
    await allClosed()
    expect(performance.now() - startedAt).toBeLessThan(DRAIN_MS + 1_000)
  })

  test('of an endless body no more is taken than fits the buffers on the way', async () => {
    let bytesWritten = 0
    const { url, allClosed } = await receiver(({ socket }) => {
      socket.on('close', () => {
        bytesWritten = socket.bytesWritten
      })
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      writeForever(socket, Buffer.alloc(1_000_000, 'x'), 0)
    })
    expect(await transport().send(post(url, { deadlineMs: 15_000 }))).toMatchObject({ statusCode: 200 })
    await allClosed()
    // Read until DRAIN_MS it would be hundreds of megabytes.
    expect(bytesWritten).toBeLessThan(20_000_000)
  })

  test('also where the body is wanted', async () => {
    const { url } = await receiver(({ socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 100\r\n\r\nhello')
    })
    const { result, tookMs } = await timed(() => transport().send(post(url, { keepResponse: true })))
    expect(result).toMatchObject({ kind: 'response', statusCode: 200, excerpt: 'hello', headers: { 'x-a': '1' } })
    expect(tookMs).toBeLessThan(DEADLINE_MS + LATE_MS)
  })
})

describe('a head of a failure decides too, with what of the body came in time', () => {
  test('dripped body', async () => {
    const { url, allClosed } = await receiver(({ socket }) => {
      socket.write('HTTP/1.1 503 Busy\r\nRetry-After: 120\r\n\r\n')
      writeForever(socket, 'x', 20)
    })
    const { result, tookMs } = await timed(() => transport().send(post(url)))
    expect(result).toMatchObject({ statusCode: 503, retryAfter: '120', excerpt: expect.stringMatching(/^x+$/) })
    expect(tookMs).toBeLessThan(DEADLINE_MS + LATE_MS)
    await allClosed()
  })

  test('endless body: 16 KiB are kept and the connection is closed', async () => {
    const { url, allClosed } = await receiver(({ socket }) => {
      socket.write('HTTP/1.1 500 Oops\r\n\r\n')
      writeForever(socket, Buffer.alloc(65_536, 'x'), 0)
    })
    const { result, tookMs } = await timed(() => transport().send(post(url, { deadlineMs: 5_000 })))
    expect(result).toMatchObject({ statusCode: 500, excerpt: 'x'.repeat(16_384) })
    expect(tookMs).toBeLessThan(2_000)
    await allClosed()
  })

  test('cut off, reset', async () => {
    const { url } = await receiver(({ socket }) => void socket.end('HTTP/1.1 410 Gone\r\nContent-Length: 10\r\n\r\nab'))
    expect(await transport().send(post(url))).toMatchObject({ kind: 'response', statusCode: 410, excerpt: 'ab' })
  })

  test('a gzip bomb stays as small as it was sent', async () => {
    const bomb = gzipSync(Buffer.alloc(8_000_000))
    const { url } = await receiver(({ socket }) => {
      socket.write(`HTTP/1.1 400 Bad\r\nContent-Encoding: gzip\r\nContent-Length: ${bomb.length}\r\n\r\n`)
      socket.write(bomb)
    })
    const result = await transport().send(post(url, { deadlineMs: 2_000 }))
    expect(result).toMatchObject({ statusCode: 400, headers: { 'content-encoding': 'gzip' } })
    expect(result.kind === 'response' && result.excerpt?.length).toBeLessThanOrEqual(16_384)
    expect(result.kind === 'response' && result.excerpt?.startsWith('\u001f')).toBe(true)
  })

  test('bytes that are not UTF-8, a NUL, and a character cut in two', async () => {
    const body = Buffer.concat([Buffer.from([0xff, 0x00, 0x41]), Buffer.from('é'.repeat(9_000))])
    const { url } = await receiver(({ socket }) => {
      socket.write(`HTTP/1.1 400 Bad\r\nContent-Length: ${body.length}\r\n\r\n`)
      socket.write(body)
    })
    const result = await transport().send(post(url, { deadlineMs: 2_000 }))
    expect(result).toMatchObject({ excerpt: `\ufffd\ufffdA${'é'.repeat((16_384 - 3 - 1) / 2)}` })
  })

  test.each([301, 302, 303, 307, 308])('a redirect (%i) to this machine is not followed', async (status) => {
    const target = await receiver(({ socket }) => void socket.end('HTTP/1.1 200 OK\r\n\r\n'))
    const { url, received } = await receiver(({ socket }) => {
      socket.write(`HTTP/1.1 ${status} Moved\r\nLocation: ${target.url}\r\nContent-Length: 0\r\n\r\n`)
    })
    const result = await transport().send(post(url))
    expect(result).toMatchObject({
      kind: 'response',
      statusCode: status,
      headers: { location: target.url },
      excerpt: '',
    })
    expect(target.connections()).toBe(0)
    expect(received()).toContain('{"a":1}')
  })

  test('hostile header names and repeated headers', async () => {
    const { url } = await receiver(({ socket }) => {
      const lines = ['__proto__: x', 'constructor: y', 'X-A: 1', 'x-a: 2', 'Retry-After: 1', 'Retry-After: 2']
      socket.write(`HTTP/1.1 429 Slow\r\n${lines.join('\r\n')}\r\nContent-Length: 0\r\n\r\n`)
    })
    const result = await transport().send(post(url))
    expect(result).toMatchObject({ statusCode: 429, retryAfter: '1', headers: { constructor: 'y', 'x-a': '1, 2' } })
    expect(Object.getPrototypeOf(result.kind === 'response' && result.headers)).toBe(Object.prototype)
  })
})

describe('connecting', () => {
  test('a port that nobody listens on', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    server.close()
    await once(server, 'close')
    const result = await transport().send(post(`http://127.0.0.1:${port}/`))
    expect(result).toMatchObject({ kind: 'error', code: 'CONNECT_FAILED', timings: { dns: null, firstByte: null } })
    expect(result.timings.connect).not.toBeNull()
  })

  test('what answers no TLS handshake, and what answers it with HTTP', async () => {
    const silent = await receiver(() => {})
    const { result, tookMs } = await timed(() => transport().send(post(`https://127.0.0.1:${silent.port}/`)))
    expect(result).toMatchObject({ kind: 'error', code: 'TLS_FAILED' })
    expect(tookMs).toBeLessThan(DEADLINE_MS + LATE_MS)
    const plain = await receiver(() => {}, { onConnect: (socket) => void socket.write('HTTP/1.1 400 Bad\r\n\r\n') })
    const answer = await transport().send(post(`https://127.0.0.1:${plain.port}/`, { deadlineMs: 2_000 }))
    expect(answer).toMatchObject({ kind: 'error', code: 'TLS_FAILED' })
    expect(silent.received() + plain.received()).not.toContain('POST')
  })

  test('plain HTTP to a TLS port', async () => {
    const { port } = await receiver(() => {}, { tls: true })
    const result = await transport().send(post(`http://127.0.0.1:${port}/`))
    expect(result.kind).toBe('error')
    expect(result).not.toMatchObject({ code: 'SEND_FAILED' })
  })
})
