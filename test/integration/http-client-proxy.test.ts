import { connect, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { createAddressPolicy } from '../../packages/core/src/http-client/address-guard.ts'
import { createHttpTransport } from '../../packages/core/src/http-client/http-transport.ts'
import { createEgressProxy, type ProxyOptions } from '../../packages/core/src/http-client/proxy.ts'
import { requestTunnel } from '../../packages/core/src/http-client/proxy-connect.ts'
import type { ProxyChange } from '../../packages/core/src/http-client/proxy-health.ts'
import { createAuthority } from '../support/certificates.ts'
import { type ConnectProxy, type ConnectProxyOptions, startConnectProxy } from '../support/connect-proxy.ts'
import { TEST_CERTIFICATE } from '../support/hostile-certificate.ts'
import { writeForever } from '../support/hostile-receivers.ts'
import { answerOk, closeAfterTest, nameServer, post, receiver, transport } from '../support/hostile-transport.ts'
import { until } from '../support/until.ts'

/** Tunnels through a real CONNECT proxy: who decides what, what it is told, and every way in which it can fail. */

async function proxyServer(options: ConnectProxyOptions = {}): Promise<ConnectProxy> {
  const proxy = await startConnectProxy(options)
  closeAfterTest(() => proxy.stop())
  return proxy
}

const lookup = nameServer(['127.0.0.1'])
const ca = { only: TEST_CERTIFICATE }

describe('a tunnel', () => {
  test('carries https and http, is kept alive, and splits the timings', async () => {
    const proxy = await proxyServer()
    const one = transport({ lookup, proxy: proxy.url, tls: { ca } })
    for (const tls of [true, false]) {
      const { port, connections } = await receiver(answerOk, { tls })
      const url = `${tls ? 'https' : 'http'}://receiver.test:${port}/`
      const first = await one.send(post(url))
      expect(first).toMatchObject({
        statusCode: 200,
        timings: { dns: expect.any(Number), connect: expect.any(Number), tls: tls ? expect.any(Number) : null },
      })
      expect(await one.send(post(url))).toMatchObject({ statusCode: 200, timings: { dns: null, connect: null } })
      expect(connections()).toBe(1)
    }
    expect(proxy.asked).toHaveLength(2)
    await one.close()
    await until('every tunnel to be closed', () => proxy.connected() === 0)
  })

  test('the name stays in SNI, certificate and Host; the proxy is told the checked address alone', async () => {
    const proxy = await proxyServer()
    let servername: unknown
    const { port, received } = await receiver(answerOk, {
      tls: true,
      onConnect: (socket) => {
        servername = (socket as unknown as { servername: string }).servername
      },
    })
    const one = transport({ lookup, proxy: proxy.url, tls: { ca } })
    expect(await one.send(post(`https://receiver.test:${port}/`))).toMatchObject({ statusCode: 200 })
    expect(proxy.asked[0]?.head).toBe(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
    expect(servername).toBe('receiver.test')
    expect(received().toLowerCase()).toContain(`host: receiver.test:${port}\r\n`)
    const other = await one.send(post(`https://other.test:${port}/`))
    expect(other).toMatchObject({ code: 'TLS_FAILED', message: expect.stringContaining('another host name') })
  })

  test('through a proxy that speaks TLS, with a certificate of one’s own', async () => {
    const authority = createAuthority('Proxy CA')
    const clients = createAuthority('Clients of the proxy')
    const certificate = authority.issue('proxy', { names: ['127.0.0.1'] })
    const proxy = await proxyServer({ tls: certificate })
    const { port } = await receiver(answerOk, { tls: true })
    const send = (tls?: ProxyOptions['tls']) =>
      transport({ lookup, tls: { ca }, proxy: { url: proxy.url, ...(tls === undefined ? {} : { tls }) } }).send(
        post(`https://receiver.test:${port}/`),
      )
    expect(await send({ ca: { add: authority.cert } })).toMatchObject({ statusCode: 200 })
    expect(
      await send({ ca: { only: authority.cert }, clientCertificate: clients.issue('us', { usage: 'client' }) }),
    ).toMatchObject({ statusCode: 200 })
    expect(await send()).toMatchObject({ code: 'PROXY_FAILED', message: expect.stringContaining('UNABLE_TO') })
  })

  test('what a receiver says first is left for whoever reads the tunnel', async () => {
    const proxy = await proxyServer({ instead: (socket) => void socket.write('HTTP/1.1 200 OK\r\n\r\n220 ready') })
    const socket = connect(proxy.port, '127.0.0.1')
    closeAfterTest(async () => socket.destroy())
    expect(await requestTunnel(socket, '2001:db8::1', 25, null)).toBe(200)
    expect(proxy.asked[0]).toMatchObject({ host: '2001:db8::1', port: 25 })
    expect(String(socket.read())).toBe('220 ready')
  })

  test('a kept-alive tunnel that the proxy closed is stale', async () => {
    const proxy = await proxyServer()
    const { port } = await receiver((request) => (request.request === 1 ? answerOk(request) : request.socket.end()))
    const one = transport({ lookup, proxy: proxy.url })
    await one.send(post(`http://receiver.test:${port}/`))
    expect(await one.send(post(`http://receiver.test:${port}/`))).toMatchObject({
      code: 'CONNECTION_RESET',
      staleConnection: true,
    })
  })
})

describe('who decides', () => {
  test('here: addresses that are not public are refused before the proxy hears of them', async () => {
    const proxy = await proxyServer()
    const { port, connections } = await receiver()
    const policy = createAddressPolicy({ allowHttp: true, allowedCidrs: ['127.0.0.1/32'] })
    const names = nameServer(['127.0.0.1'], ['10.0.0.1'], ['127.0.0.1', '169.254.169.254'])
    const one = transport({ policy, lookup: names, proxy: proxy.url })
    const send = () => one.send(post(`http://name.test:${port}/`, { freshConnection: true }))
    expect(await send()).toMatchObject({ statusCode: 200 })
    expect(await send()).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(await send()).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect([proxy.asked.length, connections()]).toEqual([1, 1])
  })

  test('there: the proxy is told the name and resolves it; nothing is looked up here', async () => {
    const names = nameServer(['10.0.0.1'])
    const proxy = await proxyServer({ hosts: { 'receiver.test': '127.0.0.1' }, allow: ['receiver.test'] })
    const { port } = await receiver(answerOk, { tls: true })
    const one = transport({ lookup: names, tls: { ca }, proxy: { url: proxy.url, resolve: 'proxy' } })
    expect(await one.send(post(`https://receiver.test:${port}/`))).toMatchObject({
      statusCode: 200,
      timings: { dns: null },
    })
    expect(proxy.asked[0]?.host).toBe('receiver.test')
    expect(names.asked).toEqual([])
    expect(await one.send(post(`https://other.test:${port}/`))).toMatchObject({ code: 'PROXY_REFUSED' })
  })

  test('there: what the URL itself shows is still decided here', async () => {
    const proxy = await proxyServer()
    const policy = createAddressPolicy({ allowHttp: true, deniedHosts: ['*.internal.example'], allowedPorts: [443] })
    const one = transport({ policy, proxy: { url: proxy.url, resolve: 'proxy' } })
    for (const url of [
      'https://10.0.0.1/',
      'https://[::ffff:a00:1]/',
      'https://0x7f.1/',
      'https://localhost/',
      'https://db.internal.example/',
      'https://example.com:22/',
    ])
      expect(await one.send(post(url)), url).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(proxy.asked).toEqual([])
  })

  test('here: the next address is tried where the proxy cannot reach one, IPv4 first', async () => {
    const { port } = await receiver()
    const policy = createAddressPolicy({ allowHttp: true, allowedCidrs: ['127.0.0.0/8', '::1'] })
    const proxy = await proxyServer({ hosts: { '127.0.0.2': '127.0.0.1', '127.0.0.3': 'nowhere.invalid' } })
    const one = transport({ policy, lookup: nameServer(['::1', '127.0.0.3', '127.0.0.2']), proxy: proxy.url })
    expect(await one.send(post(`http://many.test:${port}/`))).toMatchObject({ statusCode: 200 })
    expect(proxy.asked.map(({ host }) => host)).toEqual(['127.0.0.3', '127.0.0.2'])
  })

  test('noProxy is reached directly, and guarded as ever', async () => {
    const proxy = await proxyServer()
    const { port, connections } = await receiver()
    const noProxy = ['direct.test', '*.direct.test', '127.0.0.0/8']
    const names = nameServer(['127.0.0.1'], ['127.0.0.1'], ['10.0.0.1'])
    const one = transport({ lookup: names, proxy: { url: proxy.url, noProxy } })
    for (const host of ['direct.test', 'a.direct.test', '127.0.0.1'])
      expect(await one.send(post(`http://${host}:${port}/`)), host).toMatchObject({ statusCode: 200 })
    expect([proxy.asked.length, connections()]).toEqual([0, 3])
    expect(await one.send(post(`http://direct.test:${port}/`, { freshConnection: true }))).toMatchObject({
      code: 'ADDRESS_REFUSED',
    })
    await one.send(post(`http://notdirect.test:${port}/`))
    expect(proxy.asked).toHaveLength(0)
  })

  test('environment variables are not read', async () => {
    const proxy = await proxyServer()
    const { url } = await receiver()
    const before = { ...process.env }
    Object.assign(process.env, { HTTP_PROXY: proxy.url, HTTPS_PROXY: proxy.url, http_proxy: proxy.url })
    try {
      expect(await transport().send(post(url))).toMatchObject({ statusCode: 200 })
    } finally {
      process.env = before
    }
    expect(proxy.asked).toEqual([])
  })
})

describe('credentials', () => {
  test.each([
    ['in the URL', (url: string) => url.replace('://', '://us%C3%A9r:p%40ss%3Aword@')],
    ['beside it', (url: string) => ({ url, credentials: { username: 'usér', password: 'p@ss:word' } })],
    ['of a function', (url: string) => ({ url, credentials: () => ({ username: 'usér', password: 'p@ss:word' }) })],
  ])('%s', async (_where, option) => {
    const proxy = await proxyServer({ credentials: 'usér:p@ss:word' })
    const { url, received } = await receiver()
    expect(await transport({ proxy: option(proxy.url) }).send(post(url))).toMatchObject({ statusCode: 200 })
    // They are the proxy's, and no receiver's.
    expect(received().toLowerCase()).not.toContain('authorization')
  })

  test('wrong ones are an error of their own, which shows nothing of them; new ones are used at the next connect', async () => {
    const proxy = await proxyServer({ credentials: 'user:right' })
    const { url } = await receiver()
    let password = 'hunter2'
    const one = transport({ proxy: { url: proxy.url, credentials: () => ({ username: 'user', password }) } })
    const result = await one.send(post(url))
    expect(result).toMatchObject({ kind: 'error', code: 'PROXY_AUTH_FAILED', message: expect.stringContaining('407') })
    expect(JSON.stringify(result)).not.toMatch(/hunter2|dXNlcjpodW50ZXIy|corp/)
    password = 'right'
    expect(await one.send(post(url))).toMatchObject({ statusCode: 200 })
  })

  test('a function that throws is the host’s failure, without its text', async () => {
    const proxy = await proxyServer()
    const credentials = () => {
      throw new Error('vault: s.123')
    }
    const result = await transport({ proxy: { url: proxy.url, credentials } }).send(post('http://127.0.0.1:1/'))
    expect(result).toMatchObject({ code: 'PROXY_AUTH_FAILED' })
    expect(JSON.stringify(result)).not.toContain('s.123')
  })

  test.each([
    'socks5://proxy.example',
    'proxy.example:3128',
    'http://user:hunter2@proxy.example/path',
    'http://user:hunter2@proxy.example/?x',
    'http://user:hunter2%zz@proxy.example',
    { url: 'http://p.example', credentials: { username: 'a:b', password: 'hunter2' } },
    { url: 'http://p.example', credentials: { username: 'a', password: 'hunter2\r\nX: 1' } },
    { url: 'http://p.example', resolve: 'there' as 'here' },
    { url: 'http://p.example', noProxy: ['https://x.example'] },
    { url: 'https://p.example', tls: { ca: { only: 'hunter2' } } },
  ])('%j is refused, without showing it', (proxy) => {
    let error: unknown
    try {
      createHttpTransport({ policy: createAddressPolicy(), proxy })
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(String(error)).not.toContain('hunter2')
  })

  test('nothing prints them', async () => {
    const { inspect } = await import('node:util')
    const proxy = createEgressProxy('http://user:hunter2@proxy.example:3128')
    expect(inspect(proxy, { depth: 9, showHidden: true }) + JSON.stringify(proxy)).not.toContain('hunter2')
    expect(proxy).toMatchObject({ hostname: 'proxy.example', port: 3128 })
    expect(createEgressProxy('https://[::1]')).toMatchObject({ hostname: '::1', port: 443 })
  })
})

describe('a proxy that', () => {
  const answering = (text: string) => (socket: Socket) => void socket.end(text)
  test.each<[string, string, RegExp, (socket: Socket) => void]>([
    ['refuses', 'PROXY_REFUSED', /403.*allow-list/, answering('HTTP/1.1 403 Forbidden\r\n\r\nDenied by rule 7')],
    ['redirects', 'PROXY_REFUSED', /302/, answering('HTTP/1.1 302 Found\r\nLocation: http://login.corp/\r\n\r\n')],
    ['answers 101', 'PROXY_REFUSED', /101/, answering('HTTP/1.1 101 Switching Protocols\r\n\r\n')],
    ['cannot reach the receiver', 'PROXY_GATEWAY_FAILED', /502/, answering('HTTP/1.1 502 Bad Gateway\r\n\r\n')],
    ['is overloaded', 'PROXY_GATEWAY_FAILED', /503/, answering('HTTP/1.0 503 Service Unavailable\r\n\r\n')],
    ['speaks something else', 'PROXY_FAILED', /not HTTP/, answering('SSH-2.0-OpenSSH_9.9\r\n')],
    ['has no status', 'PROXY_FAILED', /not HTTP/, answering('HTTP/1.1 OK\r\n\r\n')],
    ['closes', 'PROXY_FAILED', /closed the connection/, (socket) => void socket.end()],
    ['closes within its head', 'PROXY_FAILED', /closed the connection/, answering('HTTP/1.1 200 OK\r\nVia')],
    ['resets', 'PROXY_FAILED', /proxy/, (socket) => void socket.resetAndDestroy()],
    [
      'sends headers without end',
      'PROXY_FAILED',
      /16 KiB/,
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\n')
        writeForever(socket, `X-Fill: ${'a'.repeat(1_000)}\r\n`, 0)
      },
    ],
    ['never answers', 'PROXY_TIMEOUT', /did not reach the receiver within 200 ms/, () => {}],
    ['answers half', 'PROXY_TIMEOUT', /within 200 ms/, (socket) => void socket.write('HTTP/1.1 200')],
  ])('%s: %s', async (_what, code, message, instead) => {
    const proxy = await proxyServer({ instead })
    const one = transport({ lookup, proxy: proxy.url })
    const result = await one.send(post('http://receiver.test/', { deadlineMs: code === 'PROXY_TIMEOUT' ? 200 : 5_000 }))
    expect(result).toMatchObject({
      kind: 'error',
      code,
      message: expect.stringMatching(message),
      staleConnection: false,
    })
    expect(result.timings).toMatchObject({ tls: null, firstByte: null })
    // What it says may hold anything.
    expect(JSON.stringify(result)).not.toMatch(/Denied|login|X-Fill/)
    await until('the connection to be closed', () => proxy.connected() === 0)
  })

  test('is not there, or has no address', async () => {
    const proxy = await proxyServer()
    await proxy.stop()
    const refused = await transport({ lookup, proxy: proxy.url }).send(post('http://receiver.test/'))
    expect(refused).toMatchObject({ code: 'PROXY_FAILED', message: expect.stringContaining('ECONNREFUSED') })
    const unknown = await transport({
      lookup: async () => {
        throw Object.assign(new Error('no'), { code: 'ENOTFOUND' })
      },
      proxy: { url: 'http://proxy.test', resolve: 'proxy' },
    }).send(post('http://receiver.test/'))
    expect(unknown).toMatchObject({ code: 'PROXY_FAILED', message: expect.stringContaining('ENOTFOUND') })
  })
})

describe('while the proxy is down', () => {
  test('sends are held after three failures in a row, but for a probe now and then', async () => {
    let now = 0
    const clock = { now: () => Date.now(), monotonic: () => now }
    const changes: ProxyChange[] = []
    const proxy = await proxyServer()
    const { port } = await receiver()
    const one = transport({
      clock,
      lookup,
      proxy: { url: proxy.url, noProxy: ['direct.test'] },
      onProxyChange: (change) => changes.push(change),
    })
    const url = `http://receiver.test:${port}/`
    const send = () => one.send(post(url, { freshConnection: true }))
    const held = () => one.heldMs?.(url)
    await proxy.stop()
    for (let failures = 1; failures <= 3; failures++) {
      expect(held()).toBe(0)
      expect(await send()).toMatchObject({ code: 'PROXY_FAILED' })
    }
    expect([held(), one.heldMs?.(`http://direct.test:${port}/`)]).toEqual([1_000, 0])
    now = 1_000
    expect(held()).toBe(0)
    const probe = send()
    // Until something comes of the probe, the others wait.
    expect(held()).toBe(1_000)
    await probe
    expect(held()).toBe(2_000)
    for (const waitMs of [4_000, 8_000, 16_000, 30_000, 30_000]) {
      now += 60_000
      await send()
      expect(held()).toBe(waitMs)
    }
    await proxy.restart()
    now += 30_000
    expect(await send()).toMatchObject({ statusCode: 200 })
    expect(held()).toBe(0)
    expect(changes).toHaveLength(8)
    expect(changes[0]).toEqual({
      down: true,
      code: 'PROXY_FAILED',
      message: expect.stringContaining('ECONNREFUSED'),
      retryInMs: 1_000,
    })
    expect(changes.at(-1)).toEqual({ down: false })
  })

  test('a proxy that answers is not down, whatever it answers about a receiver', async () => {
    const proxy = await proxyServer({ allow: [] })
    const one = transport({ lookup, proxy: proxy.url })
    for (let n = 0; n < 5; n++) await one.send(post('http://receiver.test/'))
    proxy.options.instead = (socket) => void socket.end('HTTP/1.1 504 Gateway Timeout\r\n\r\n')
    for (let n = 0; n < 5; n++) await one.send(post('http://receiver.test/'))
    expect(one.heldMs?.('http://receiver.test/')).toBe(0)
    delete proxy.options.instead
    proxy.options.credentials = 'changed'
    for (let n = 0; n < 3; n++) await one.send(post('http://receiver.test/'))
    expect(one.heldMs?.('http://receiver.test/')).toBeGreaterThan(0)
  })

  test('one that accepts nobody is down too', async () => {
    let now = 0
    const proxy = await proxyServer({ tls: createAuthority('CA').issue('proxy', { names: ['127.0.0.1'] }) })
    // Plain TCP that is accepted and never answers the handshake.
    const silent = await receiver(() => {})
    const one = transport({
      clock: { now: () => Date.now(), monotonic: () => (now += 300) },
      lookup,
      proxy: proxy.url.replace(String(proxy.port), String(silent.port)),
    })
    for (let n = 0; n < 3; n++)
      expect(await one.send(post('http://receiver.test/', { deadlineMs: 50 }))).toMatchObject({ code: 'PROXY_FAILED' })
    expect(one.heldMs?.('http://receiver.test/')).toBeGreaterThan(0)
  })
})
