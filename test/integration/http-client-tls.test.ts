import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket, TlsOptions } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { createHttpTransport } from '../../packages/core/src/http-client/http-transport.ts'
import type { ReceiverTls } from '../../packages/core/src/http-client/tls-identity.ts'
import { createAuthority } from '../support/certificates.ts'
import { closeAfterTest, loopback, nameServer, post, transport } from '../support/hostile-transport.ts'
import { until } from '../support/until.ts'

/** Private authorities, client certificates and source addresses, against real TLS servers with certificates made here. */

const DAY_MS = 86_400_000
const corporate = createAuthority('Corporate CA')
const stranger = createAuthority('Another CA')
const partners = createAuthority('Partner client CA')
const alice = partners.issue('alice', { usage: 'client' })
const bob = partners.issue('bob', { usage: 'client' })
const lookup = nameServer(['127.0.0.1'])

interface SecureReceiver {
  port: number
  /** Common names of the clients of all requests, in order; null without a certificate. */
  clients: (string | null)[]
  /** Source addresses of all connections, in order. */
  connections: string[]
}

async function secureReceiver(options: TlsOptions): Promise<SecureReceiver> {
  const clients: (string | null)[] = []
  const connections: string[] = []
  const server: Server = createServer(options, (request, response) => {
    const name = (request.socket as TLSSocket).getPeerCertificate().subject?.CN
    clients.push(typeof name === 'string' ? name : null)
    request.resume().on('end', () => response.end('ok'))
  })
  server.on('secureConnection', (socket: TLSSocket) => connections.push(socket.remoteAddress ?? ''))
  server.on('tlsClientError', () => {})
  await once(server.listen(0, '127.0.0.1'), 'listening')
  closeAfterTest(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return { port: (server.address() as AddressInfo).port, clients, connections }
}

const forReceiver = (names = ['receiver.test']) => corporate.issue('receiver', { names })

describe('authorities', () => {
  test('of one’s own, in place of Node’s or beside them', async () => {
    const { port } = await secureReceiver(forReceiver())
    const send = (ca?: ReceiverTls['ca']) =>
      transport({ lookup, ...(ca === undefined ? {} : { tls: { ca } }) }).send(post(`https://receiver.test:${port}/`))
    expect(await send()).toMatchObject({ code: 'TLS_FAILED', message: expect.stringMatching(/not trusted/) })
    expect(await send({ only: corporate.cert })).toMatchObject({ statusCode: 200 })
    expect(await send({ only: [stranger.cert, Buffer.from(corporate.cert)] })).toMatchObject({ statusCode: 200 })
    expect(await send({ add: corporate.cert })).toMatchObject({ statusCode: 200 })
    expect(await send({ only: stranger.cert })).toMatchObject({ code: 'TLS_FAILED' })
  })

  test.each([
    [
      'has expired',
      { notBefore: new Date(Date.now() - 9 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) },
      'CERT_HAS_EXPIRED',
    ],
    ['is not valid yet', { notBefore: new Date(Date.now() + DAY_MS) }, 'CERT_NOT_YET_VALID'],
    ['is for another name', { names: ['other.test'] }, 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ['is a client’s', { usage: 'client' as const }, 'INVALID_PURPOSE'],
  ])('a certificate that %s is refused before a request is written', async (_what, options, code) => {
    const { port, clients } = await secureReceiver(
      corporate.issue('receiver', { names: ['receiver.test'], ...options }),
    )
    const result = await transport({ lookup, tls: { ca: { only: corporate.cert } } }).send(
      post(`https://receiver.test:${port}/`),
    )
    expect(result).toMatchObject({ kind: 'error', code: 'TLS_FAILED', message: expect.stringContaining(code) })
    expect(clients).toEqual([])
  })

  test('one for one endpoint is trusted for no other', async () => {
    const { port } = await secureReceiver(forReceiver(['a.test', 'b.test']))
    const one = transport({ lookup, tls: { forEndpoint: { 'a.test': { ca: { only: corporate.cert } } } } })
    expect(await one.send(post(`https://a.test:${port}/`))).toMatchObject({ statusCode: 200 })
    expect(await one.send(post(`https://b.test:${port}/`))).toMatchObject({ code: 'TLS_FAILED' })
  })

  test('the oldest version of TLS that is spoken', async () => {
    const { port } = await secureReceiver({ ...forReceiver(), maxVersion: 'TLSv1.2' })
    const send = (minVersion?: 'TLSv1.2' | 'TLSv1.3') =>
      transport({
        lookup,
        tls: { ca: { only: corporate.cert }, ...(minVersion === undefined ? {} : { minVersion }) },
      }).send(post(`https://receiver.test:${port}/`))
    expect(await send()).toMatchObject({ statusCode: 200 })
    expect(await send('TLSv1.3')).toMatchObject({ code: 'TLS_FAILED' })
  })
})

describe('client certificates', () => {
  const mutual = () => ({ ...forReceiver(['a.test', 'b.test']), requestCert: true, ca: partners.cert })
  const ca = { only: corporate.cert }
  const to = (port: number, host = 'a.test', endpointId = 'ep_1') => post(`https://${host}:${port}/`, { endpointId })

  test('one for all; none is a failed handshake', async () => {
    const { port, clients } = await secureReceiver(mutual())
    expect(await transport({ lookup, tls: { ca, clientCertificate: alice } }).send(to(port))).toMatchObject({
      statusCode: 200,
    })
    expect(clients).toEqual(['alice'])
    for (const refused of [{ ca }, { ca, clientCertificate: stranger.issue('mallory', { usage: 'client' }) }]) {
      const result = await transport({ lookup, tls: refused }).send(to(port))
      expect(result).toMatchObject({ kind: 'error', staleConnection: false })
      // Under TLS 1.3 a client may write before the server has looked at its certificate.
      expect(['TLS_FAILED', 'CONNECTION_RESET']).toContain((result as { code: string }).code)
    }
    expect(clients).toEqual(['alice'])
  })

  test('one endpoint’s never serves another, on the same host and at the same time', async () => {
    const { port, clients, connections } = await secureReceiver(mutual())
    const forEndpoint = { ep_1: { clientCertificate: alice }, ep_2: { clientCertificate: bob } }
    const one = transport({ lookup, tls: { ca, clientCertificate: bob, forEndpoint } })
    const order = ['ep_1', 'ep_2', 'ep_1', 'ep_3', 'ep_2', 'ep_1']
    for (const id of order) expect(await one.send(to(port, 'a.test', id))).toMatchObject({ statusCode: 200 })
    expect(clients).toEqual(['alice', 'bob', 'alice', 'bob', 'bob', 'alice'])
    // Reused where they may be: of ep_1, of ep_2, and of those for which nothing is said.
    expect(connections).toHaveLength(3)
    await Promise.all(Array.from({ length: 20 }, (_, n) => one.send(to(port, 'a.test', `ep_${(n % 2) + 1}`))))
    expect(clients.slice(6).filter((name) => name === 'alice')).toHaveLength(10)
  })

  test('by host; an endpoint’s id wins, and null is none', async () => {
    const { port, clients } = await secureReceiver({ ...mutual(), rejectUnauthorized: false })
    const forEndpoint = {
      'a.test': { clientCertificate: alice },
      ep_2: { clientCertificate: bob },
      ep_3: { clientCertificate: null },
    }
    const one = transport({ lookup, tls: { ca, clientCertificate: bob, forEndpoint } })
    await one.send(to(port, 'a.test', 'ep_1'))
    await one.send(to(port, 'a.test', 'ep_2'))
    await one.send(to(port, 'b.test', 'ep_1'))
    await one.send(to(port, 'a.test', 'ep_3'))
    expect(clients).toEqual(['alice', 'bob', 'bob', null])
  })

  test('a function is asked at every send: a renewed certificate is used from then on', async () => {
    const { port, clients, connections } = await secureReceiver(mutual())
    let current = alice
    const asked: unknown[] = []
    const one = transport({
      lookup,
      tls: {
        ca,
        forEndpoint: async (receiver) => {
          asked.push(receiver)
          // A new object each time: what counts is what is in it.
          return { clientCertificate: { ...current } }
        },
      },
    })
    await one.send({ ...to(port), account: 'shop' })
    await one.send(to(port))
    current = bob
    await one.send(to(port))
    expect(clients).toEqual(['alice', 'alice', 'bob'])
    expect(connections).toHaveLength(2)
    expect(asked[0]).toEqual({ endpointId: 'ep_1', account: 'shop', hostname: 'a.test', port })
  })

  test.each([
    [
      'throws',
      () => {
        throw new Error('vault: token s.123 expired')
      },
    ],
    [
      'rejects',
      async () => {
        throw new Error('vault: token s.123 expired')
      },
    ],
    ['answers a key of another', () => ({ clientCertificate: { cert: alice.cert, key: bob.key } })],
    ['answers nonsense', () => ({ clientCertificate: { cert: 'no', key: 'pem' } })],
  ])('a function that %s: its own error, before anything is sent, and without its text', async (_what, forEndpoint) => {
    const { port, clients } = await secureReceiver(mutual())
    const result = await transport({ lookup, tls: { ca, forEndpoint } }).send(to(port))
    expect(result).toMatchObject({ kind: 'error', code: 'TLS_SETTINGS_FAILED', staleConnection: false })
    expect(JSON.stringify(result)).not.toContain('s.123')
    expect(clients).toEqual([])
  })

  test('a function that never answers ends with the deadline, and says so', async () => {
    const one = transport({ lookup, tls: { ca, forEndpoint: () => new Promise<null>(() => {}) } })
    const result = await one.send({ ...to(1), deadlineMs: 50 })
    expect(result).toMatchObject({ code: 'TLS_SETTINGS_FAILED', message: expect.stringContaining('50 ms') })
  })

  test('an encrypted key', async () => {
    const { createPrivateKey } = await import('node:crypto')
    const key = createPrivateKey(alice.key).export({
      type: 'pkcs8',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase: 'hush',
    }) as string
    const { port, clients } = await secureReceiver(mutual())
    const one = transport({ lookup, tls: { ca, clientCertificate: { cert: alice.cert, key, passphrase: 'hush' } } })
    expect(await one.send(to(port))).toMatchObject({ statusCode: 200 })
    expect(clients).toEqual(['alice'])
  })

  test('what cannot be used is refused at once, without showing it', () => {
    for (const tls of [
      { clientCertificate: { cert: alice.cert, key: bob.key } },
      { ca: { only: '-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----' } },
      { forEndpoint: { ep_1: { clientCertificate: { cert: 'no', key: alice.key } } } },
    ]) {
      let error: unknown
      try {
        createHttpTransport({ policy: loopback, tls })
      } catch (thrown) {
        error = thrown
      }
      expect(error).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringMatching(/^http\.tls /) })
      expect(String(error)).not.toContain('BEGIN')
    }
  })
})

describe('the source address', () => {
  test.runIf(process.platform === 'linux')('is where connections begin', async () => {
    const { port, connections } = await secureReceiver(forReceiver())
    const one = transport({ lookup, tls: { ca: { only: corporate.cert } }, localAddress: ['127.0.0.9', '::1'] })
    expect(await one.send(post(`https://receiver.test:${port}/`))).toMatchObject({ statusCode: 200 })
    await until('the connection', () => connections.length === 1)
    expect(connections).toEqual(['127.0.0.9'])
  })

  test('one that this machine does not have is the host’s own failure', async () => {
    const one = transport({ lookup, localAddress: '192.0.2.1' })
    expect(await one.send(post('http://receiver.test:1/'))).toMatchObject({
      code: 'SOURCE_ADDRESS_FAILED',
      message: expect.stringContaining('EADDRNOTAVAIL'),
    })
  })

  test('a receiver without an address of its family is not connected to', async () => {
    const one = transport({ lookup, localAddress: '::1' })
    expect(await one.send(post('http://receiver.test:1/'))).toMatchObject({ code: 'SOURCE_ADDRESS_FAILED' })
  })

  test.each(
    ['localhost', '', [], ['127.0.0.1', '127.0.0.2'], ['10.0.0.0/8']].map((localAddress) => ({ localAddress })),
  )('%o is refused', ({ localAddress }) => {
    expect(() => createHttpTransport({ policy: loopback, localAddress })).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    )
  })
})
