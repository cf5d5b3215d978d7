/** HTTP itself, over every adapter and mount: paths, methods, media types, sizes, broken bodies, and the host around us. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Adapter, adapters, type Mounted, type MountOptions } from './adapters.ts'
import { call } from './client.ts'
import { freshAccount, startTestApi, type TestApi, token } from './management-api.ts'

const LIMIT = 20_000

let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ bodyLimitBytes: LIMIT })
})
afterAll(() => api.stop())

const BODY = { url: 'https://your-app.com/hooks', events: ['*'] }

const MOUNTS: (MountOptions & { what: string })[] = [
  { what: 'at the root', prefix: '' },
  { what: 'under a prefix', prefix: '/api/v1/affiliate/webhooks' },
  { what: "under a prefix, after the host's JSON parser", prefix: '/hooks', hostParser: true },
  { what: 'under a nested router', prefix: '/api/v1/hooks', nested: true },
]

const combinations = adapters.flatMap((adapter) =>
  MOUNTS.filter((mount) => adapter.framework || (!mount.hostParser && !mount.nested)).map((mount) => ({
    name: `${adapter.name} ${mount.what}`,
    adapter,
    mount,
  })),
)

describe.each(combinations)('$name', ({ adapter, mount }: { adapter: Adapter; mount: MountOptions }) => {
  let mounted: Mounted
  const account = freshAccount()
  let id: string
  /** The host parses first, and answers what it cannot parse with an error of its own. */
  const parsedByHost = mount.hostParser === true && adapter.hostParsing !== 'none'
  beforeAll(async () => {
    mounted = await adapter.mount(api, mount)
    id = (await call(mounted, 'POST', '/', { account, body: BODY })).json.id
  })
  afterAll(() => mounted.close())

  test('HEAD answers as GET does, without the body', async () => {
    const get = await call(mounted, 'GET', `/${id}`, { account })
    const head = await call(mounted, 'HEAD', `/${id}`, { account })
    expect([head.status, head.text]).toEqual([200, ''])
    expect(head.headers.get('content-length')).toBe(String(Buffer.byteLength(get.text)))
    expect(head.headers.get('content-type')).toBe('application/json')
    expect((await call(mounted, 'HEAD', '/ep_nothing', { account })).status).toBe(404)
  })

  test('OPTIONS and 405 name the methods', async () => {
    for (const [path, allow] of [
      ['/', 'GET, HEAD, OPTIONS, POST'],
      [`/${id}`, 'DELETE, GET, HEAD, OPTIONS, PATCH, PUT'],
      [`/${id}/`, 'DELETE, GET, HEAD, OPTIONS, PATCH, PUT'],
    ] as const) {
      const options = await call(mounted, 'OPTIONS', path)
      expect([path, options.status, options.headers.get('allow')]).toEqual([path, 204, allow])
      const wrong = await call(mounted, path === '/' ? 'DELETE' : 'POST', path, { account, body: {} })
      expect([wrong.status, wrong.json.code, wrong.headers.get('allow')]).toEqual([405, 'METHOD_NOT_ALLOWED', allow])
    }
  })

  test('ids may be percent-encoded; unknown, malformed and foreign paths are 404', async () => {
    expect((await call(mounted, 'GET', `/${id.replace('_', '%5F')}`, { account })).status).toBe(200)
    for (const path of [
      '/ep_00000000000000000000000000000000',
      `/${id.toUpperCase()}`,
      `/${id}x`,
      `/${id}/nothing`,
      '/%00',
      `/..%2f${id}`,
      `/${id}%2f`,
      "/'; drop table posthaste.endpoints; --",
    ]) {
      const answer = await call(mounted, 'GET', path, { account })
      expect([path, answer.status]).toEqual([path, 404])
      expect(answer.json.code).toBe('NOT_FOUND')
    }
    // Some frameworks answer this themselves.
    expect([400, 404]).toContain((await call(mounted, 'GET', '/%E0%A4%A', { account, unchecked: true })).status)
  })

  test('401 without credentials, with a challenge; nothing is read or written', async () => {
    for (const [method, path] of [
      ['GET', '/'],
      ['POST', '/'],
      ['GET', `/${id}`],
      ['DELETE', `/${id}`],
    ] as const) {
      const answer = await call(mounted, method, path, method === 'POST' ? { body: BODY } : {})
      expect([method, answer.status, answer.json.code]).toEqual([method, 401, 'UNAUTHENTICATED'])
      expect(answer.headers.get('www-authenticate')).toBe('Bearer')
    }
  })

  test('an asynchronous authorize works as well', async () => {
    const answer = await call(mounted, 'POST', '/', { account: `${account}-async`, body: BODY })
    expect(answer.status).toBe(201)
  })

  test('malformed JSON is 400', async () => {
    const headers = { 'content-type': 'application/json' }
    for (const body of ['{"url": ', '{"a":1}}', '\u0000', new Uint8Array([0x22, 0xff, 0x22]), '']) {
      const answer = await call(mounted, 'POST', '/', { account, headers, init: { body } })
      if (parsedByHost) expect([400, 418, 422]).toContain(answer.status)
      else expect([body, answer.status, answer.json.code]).toEqual([body, 400, 'MALFORMED_JSON'])
      expect(answer.text).not.toContain('url')
    }
  })

  test('only JSON is taken', async () => {
    const text = JSON.stringify(BODY)
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'application/jsonx',
      'application/json; charset=utf-16',
    ]) {
      const answer = await call(mounted, 'POST', '/', {
        account,
        headers: { 'content-type': type },
        init: { body: text },
      })
      if (parsedByHost && answer.status === 418) continue
      expect([type, answer.status, answer.json.code]).toEqual([type, 415, 'UNSUPPORTED_MEDIA_TYPE'])
    }
    for (const type of ['application/json; charset=UTF-8', 'application/vnd.api+json', 'APPLICATION/JSON']) {
      const answer = await call(mounted, 'POST', '/', {
        account,
        headers: { 'content-type': type },
        init: { body: text },
      })
      expect([type, answer.status]).toEqual([type, 201])
    }
    const untyped = await call(mounted, 'POST', '/', { account, init: { body: new TextEncoder().encode(text) } })
    expect(untyped.status).toBe(415)
  })

  test('a compressed body is refused, or inflated by the host', async () => {
    const answer = await call(mounted, 'POST', '/', {
      account,
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      init: { body: gzipSync(JSON.stringify(BODY)) },
    })
    const expected = { inflated: 201, plain: 418, none: 415 }
    expect(answer.status).toBe(expected[parsedByHost ? adapter.hostParsing : 'none'])
    if (!parsedByHost) expect(answer.headers.get('accept-encoding')).toBe('identity')
  })

  test('a body over the limit is 413, announced or chunked, and the connection goes on', async () => {
    const large = JSON.stringify({ ...BODY, description: 'x'.repeat(LIMIT) })
    const headers = { 'content-type': 'application/json' }
    const announced = await call(mounted, 'POST', '/', { account, headers, init: { body: large } })
    expect([announced.status, announced.json.code]).toEqual([413, 'BODY_TOO_LARGE'])
    const chunks = new ReadableStream({
      start(controller) {
        for (let n = 0; n < 40; n++) controller.enqueue(new TextEncoder().encode(' '.repeat(1_000)))
        controller.close()
      },
    })
    const init = { body: chunks, duplex: 'half' } as RequestInit
    const chunked = await call(mounted, 'POST', '/', { account, headers, init })
    // Forty thousand spaces are no JSON for a host's parser, which throws them away with an error of its own.
    expect(chunked.status).toBe(parsedByHost ? 418 : 413)
    expect((await call(mounted, 'GET', '/', { account })).status).toBe(200)
  })

  test('a chunked body within the limit is read', async () => {
    const chunks = new ReadableStream({
      start(controller) {
        for (const byte of new TextEncoder().encode(JSON.stringify(BODY))) controller.enqueue(new Uint8Array([byte]))
        controller.close()
      },
    })
    const init = { body: chunks, duplex: 'half' } as RequestInit
    const answer = await call(mounted, 'POST', '/', { account, headers: { 'content-type': 'application/json' }, init })
    expect(answer.status).toBe(201)
  })

  test('repeated and prototype members are harmless', async () => {
    const init = { body: '{"url":"http://127.0.0.1","events":["*"],"url":"https://your-app.com/x"}' }
    const headers = { 'content-type': 'application/json' }
    const last = await call(mounted, 'POST', '/', { account, headers, init })
    expect(last.json).toMatchObject({ url: 'https://your-app.com/x' })
    for (const member of ['__proto__', 'constructor', 'prototype']) {
      const body = `{"url":"https://your-app.com","events":["*"],"${member}":{"active":false},"metadata":{"${member}":"x"}}`
      const answer = await call(mounted, 'POST', '/', { account, headers, init: { body } })
      expect(parsedByHost ? [201, 418, 422] : [201, 422]).toContain(answer.status)
      expect(({} as { active?: unknown }).active).toBeUndefined()
    }
  })

  test('a deeply nested body is refused, not fatal', async () => {
    const body = `${'['.repeat(9_000)}${']'.repeat(9_000)}`
    const answer = await call(mounted, 'POST', '/', {
      account,
      headers: { 'content-type': 'application/json' },
      init: { body },
    })
    expect([400, 422]).toContain(answer.status)
  })

  test.runIf(adapter.framework)("what authorize throws reaches the host's error handler", async () => {
    for (const who of ['boom', 'later']) {
      const before = mounted.hostErrors.length
      const answer = await call(mounted, 'GET', '/', { account: who })
      expect([answer.status, mounted.hostErrors.length]).toEqual([418, before + 1])
      expect(mounted.hostErrors.at(-1)).toEqual(new Error('the session store is down'))
    }
  })

  test.runIf(adapter.framework && mount.prefix !== '')("the host's other routes keep their parsers", async () => {
    const response = await mounted.fetch('/host/echo', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"a":[1,2]}',
    })
    expect(await response.json()).toEqual({ a: [1, 2] })
  })

  test.runIf(adapter.framework && !parsedByHost)(
    'a client that goes away in the middle of its body breaks nothing',
    async () => {
      const socket = connect(mounted.port ?? 0, '127.0.0.1')
      await once(socket, 'connect')
      socket.write(
        `POST ${mount.prefix}/ HTTP/1.1\r\nHost: x\r\nAuthorization: ${token(account)}\r\n` +
          'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"url":',
      )
      const logged = api.log.length
      socket.resetAndDestroy()
      await once(socket, 'close')
      expect((await call(mounted, 'GET', '/', { account })).status).toBe(200)
      expect(api.log.slice(logged)).toEqual([])
    },
  )

  test.runIf(adapter.framework)('odd request lines are answered', async () => {
    const head = (line: string) => `${line}\r\nHost: x\r\nAuthorization: ${token(account)}\r\nConnection: close\r\n\r\n`
    const absolute = await raw(mounted, head(`GET http://elsewhere.example${mount.prefix}/${id} HTTP/1.1`))
    expect(absolute).toMatch(/^HTTP\/1\.1 200 /)
    expect(await raw(mounted, head(`TRACE ${mount.prefix}/ HTTP/1.1`))).toMatch(/^HTTP\/1\.1 (405|404) /)
    expect(await raw(mounted, head(`PROPFIND ${mount.prefix}/ HTTP/1.1`))).toMatch(/^HTTP\/1\.1 (405|404) /)
  })
})

async function raw(mounted: Mounted, request: string): Promise<string> {
  const socket = connect(mounted.port ?? 0, '127.0.0.1')
  socket.setEncoding('utf8')
  let answer = ''
  socket.on('data', (text) => {
    answer += text
  })
  socket.write(request)
  await once(socket, 'close')
  return answer
}
