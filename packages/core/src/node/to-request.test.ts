import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { type NodeRequest, toRequest } from './to-request.ts'

function message(method: string, headers: Record<string, string>, body: Uint8Array[]): NodeRequest {
  return Object.assign(Readable.from(body, { objectMode: false }), { method, headers })
}

const JSON_TYPE = { 'content-type': 'application/json' }

async function readAll(stream: Readable): Promise<void> {
  for await (const _ of stream);
}

describe('toRequest', () => {
  test('an unread stream is the body, to the byte', async () => {
    const bytes = [new Uint8Array([0xff, 0x00]), new Uint8Array([0x80])]
    const request = toRequest(message('POST', JSON_TYPE, bytes), '/hooks/?a=1')
    expect([request.method, new URL(request.url).pathname, new URL(request.url).search]).toEqual([
      'POST',
      '/hooks/',
      '?a=1',
    ])
    expect(new Uint8Array(await request.arrayBuffer())).toEqual(new Uint8Array([0xff, 0x00, 0x80]))
  })

  test('the unread stream wins over a body that a parser only initialised', async () => {
    const request = toRequest(message('POST', JSON_TYPE, [Buffer.from('{"a":1}')]), '/', { parsed: {} })
    expect(await request.text()).toBe('{"a":1}')
  })

  test('nothing is read of a stream before the body is', async () => {
    const incoming = message('POST', JSON_TYPE, [Buffer.from('{}')])
    const request = toRequest(incoming, '/')
    await new Promise((resolve) => setImmediate(resolve))
    expect(incoming.readableDidRead).toBe(false)
    await request.text()
    expect(incoming.readableDidRead).toBe(true)
  })

  test.each([
    [
      'the raw bytes, before anything parsed',
      { raw: Buffer.from('{ "a": 1.50 }'), parsed: { a: 1.5 } },
      '{ "a": 1.50 }',
    ],
    ['parsed bytes', { parsed: Buffer.from('[1]') }, '[1]'],
    ['parsed text', { parsed: '[2]' }, '[2]'],
    ['a parsed object, written again', { parsed: { a: 'ü' } }, '{"a":"ü"}'],
    ['nothing', {}, ''],
  ])('of a stream that was read the body is %s', async (_, read, expected) => {
    const headers = { ...JSON_TYPE, 'content-length': '999', 'content-encoding': 'gzip' }
    const incoming = message('POST', headers, [Buffer.from('consumed')])
    await readAll(incoming)
    const request = toRequest(incoming, '/', read)
    expect(await request.text()).toBe(expected)
    expect([request.headers.get('content-length'), request.headers.get('content-encoding')]).toEqual([null, null])
  })

  test('a parsed body that cannot be written again is none', async () => {
    let deep: unknown = []
    for (let n = 0; n < 100_000; n++) deep = [deep]
    const incoming = message('POST', JSON_TYPE, [Buffer.from('x')])
    await readAll(incoming)
    expect(await toRequest(incoming, '/', { parsed: deep }).text()).toBe('')
  })

  test('a stream that breaks off fails the body', async () => {
    const incoming = message('POST', JSON_TYPE, [Buffer.from('{"a":'), Buffer.from('1}')])
    const request = toRequest(incoming, '/')
    const reader = request.body?.getReader()
    await reader?.read()
    const rest = reader?.read()
    incoming.destroy()
    // What was buffered may still come; then it fails.
    await expect((async () => (await rest)?.done === false && (await reader?.read()))()).rejects.toThrow('aborted')
  })

  test('giving the body up drops the rest and leaves the stream open', async () => {
    const incoming = message(
      'POST',
      JSON_TYPE,
      Array.from({ length: 100 }, () => Buffer.alloc(1_000)),
    )
    const request = toRequest(incoming, '/')
    const reader = request.body?.getReader()
    await reader?.read()
    await reader?.cancel()
    await readAll(incoming).catch(() => {})
    expect(incoming.readableEnded).toBe(true)
  })

  test('GET and HEAD have no body, methods that Request refuses another name', async () => {
    expect(toRequest(message('GET', {}, [Buffer.from('x')]), '/').body).toBeNull()
    expect(toRequest(message('TRACE', {}, []), '/').method).toBe('X-TRACE')
  })

  test('targets in absolute form, and an asterisk', () => {
    expect(toRequest(message('GET', {}, []), 'http://other.example/a/b?c=d').url).toBe('http://localhost/a/b?c=d')
    expect(toRequest(message('OPTIONS', {}, []), '*').url).toBe('http://localhost/')
    expect(toRequest(message('GET', {}, []), '//evil.example/x').url).toBe('http://localhost//evil.example/x')
  })

  test('pseudo-headers of HTTP/2 are left out, repeated headers kept', () => {
    const incoming = Object.assign(message('GET', {}, []), {
      headers: { ':path': '/', 'x-one': '1', 'set-cookie': ['a=1', 'b=2'] },
    })
    const { headers } = toRequest(incoming, '/')
    expect([...headers.keys()].toSorted()).toEqual(['set-cookie', 'set-cookie', 'x-one'])
  })
})
