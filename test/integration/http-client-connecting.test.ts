import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { createAddressPolicy } from '../../packages/core/src/http-client/address-guard.ts'
import type { Lookup } from '../../packages/core/src/http-client/name-lookup.ts'
import { TEST_CERTIFICATE } from '../support/hostile-certificate.ts'
import { answerOk, closeAfterTest, nameServer, post, receiver, transport } from '../support/hostile-transport.ts'

/** What may be connected to, how, and what is verified before a request is written. */

describe('what may be reached', () => {
  test('a URL that the policy refuses is not connected to', async () => {
    const { url, connections, port } = await receiver()
    const strict = transport({ policy: createAddressPolicy({ allowHttp: true }) })
    expect(await strict.send(post(url))).toMatchObject({ kind: 'error', code: 'ADDRESS_REFUSED' })
    expect(await strict.send(post(`http://[::ffff:127.0.0.1]:${port}/`))).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(await transport().send(post('ftp://127.0.0.1/'))).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(connections()).toBe(0)
  })

  test('a name that answers differently after the check (rebinding) is checked at every connect', async () => {
    const { port, connections } = await receiver()
    const policy = createAddressPolicy({ allowHttp: true, allowedCidrs: ['127.0.0.1/32'] })
    const lookup = nameServer(['127.0.0.1'], ['127.0.0.2'], ['169.254.169.254'], ['127.0.0.1'])
    const one = transport({ policy, lookup })
    const send = () => one.send(post(`http://rebinding.test:${port}/`, { freshConnection: true }))
    expect(await send()).toMatchObject({ statusCode: 200 })
    expect(await send()).toMatchObject({ kind: 'error', code: 'ADDRESS_REFUSED' })
    const refused = await send()
    expect(refused).toMatchObject({ kind: 'error', code: 'ADDRESS_REFUSED' })
    expect(JSON.stringify(refused)).not.toContain('169.254.169.254')
    expect(await send()).toMatchObject({ statusCode: 200 })
    // One look-up for each connect: what was checked is what was connected to.
    expect([connections(), lookup.asked.length]).toEqual([2, 4])
  })

  test.each([
    [['127.0.0.1', '10.0.0.1']],
    [['10.0.0.1', '127.0.0.1']],
    [['127.0.0.1', '::1']],
    [['127.0.0.1', 'fe80::1%1']],
    [['127.0.0.1', 'not-an-address']],
  ])('a name with the addresses %j is refused whole', async (addresses) => {
    const { port, connections } = await receiver()
    const one = transport({ lookup: nameServer(addresses) })
    expect(await one.send(post(`http://mixed.test:${port}/`))).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(connections()).toBe(0)
  })

  test('an address that the host denies is reached by no name, and not by itself', async () => {
    const { port, connections } = await receiver()
    const policy = createAddressPolicy({ allowHttp: true, allowedCidrs: ['127.0.0.0/8'], deniedCidrs: ['127.0.0.1'] })
    const one = transport({ policy, lookup: nameServer(['127.0.0.1']) })
    expect(await one.send(post(`http://inwards.test:${port}/`))).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(await one.send(post(`http://127.0.0.1:${port}/`))).toMatchObject({ code: 'ADDRESS_REFUSED' })
    expect(connections()).toBe(0)
  })

  test('names that fail, have no address, or are never answered', async () => {
    const failing: Lookup = async () => {
      throw Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' })
    }
    const throwing: Lookup = () => {
      throw new Error('no promise')
    }
    for (const lookup of [failing, throwing, nameServer([])]) {
      const result = await transport({ lookup }).send(post('http://gone.test/'))
      expect(result).toMatchObject({ kind: 'error', code: 'DNS_FAILED', staleConnection: false })
    }
    const never: Lookup = () => new Promise(() => {})
    const late = await transport({ lookup: never }).send(post('http://gone.test/', { deadlineMs: 50 }))
    expect(late).toMatchObject({ kind: 'error', code: 'DNS_FAILED' })
    expect(late.timings.total).toBeLessThan(500)
  })

  test('look-ups at the same time share one answer', async () => {
    const { port, connections } = await receiver()
    const lookup = nameServer(['127.0.0.1'])
    const one = transport({ lookup })
    await Promise.all(Array.from({ length: 5 }, () => one.send(post(`http://burst.test:${port}/`))))
    expect([connections(), lookup.asked.length]).toEqual([5, 1])
  })
})

describe('further addresses', () => {
  test.runIf(process.platform === 'linux')('the next one is tried when one refuses the connection', async () => {
    const { port } = await receiver()
    const one = transport({ lookup: nameServer(['127.0.0.3', '127.0.0.2', '127.0.0.1']) })
    expect(await one.send(post(`http://many.test:${port}/`))).toMatchObject({ statusCode: 200 })
  })

  test('an address that does not answer ends in time; with another one beside it the request arrives', async () => {
    const port = await unresponsivePort()
    const alone = await transport().send(post(`http://127.0.0.1:${port}/`, { deadlineMs: 150 }))
    expect(alone).toMatchObject({ kind: 'error', code: 'CONNECT_TIMEOUT', staleConnection: false })
    expect(alone.timings.total).toBeLessThan(600)
    if (process.platform !== 'linux') return
    const origin = createServer((_request, response) => void response.end()).listen(port, '127.0.0.2')
    await once(origin, 'listening')
    const one = transport({ lookup: nameServer(['127.0.0.1', '127.0.0.2']) })
    expect(await one.send(post(`http://two.test:${port}/`))).toMatchObject({ statusCode: 200 })
    await one.close()
    origin.close()
    await once(origin, 'close')
  })
})

/** A port whose queue of connections is full: the kernel answers no further SYN. */
async function unresponsivePort(): Promise<number> {
  const worker = new Worker(
    `const { createServer } = require('node:net')
     const { parentPort } = require('node:worker_threads')
     const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       parentPort.postMessage(server.address().port)
       setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
     })`,
    { eval: true },
  )
  const [port] = (await once(worker, 'message')) as [number]
  await pause(20)
  const fillers = Array.from({ length: 4 }, () => connect(port, '127.0.0.1').on('error', () => {}))
  closeAfterTest(async () => {
    for (const filler of fillers) filler.destroy()
    await worker.terminate()
  })
  await pause(20)
  return port
}

describe('TLS', () => {
  const url = (port: number, host = 'receiver.test') => `https://${host}:${port}/`
  const lookup = nameServer(['127.0.0.1'])

  test('verifies certificate and name, sends SNI, speaks HTTP/1.1, and resolves nothing a second time', async () => {
    let negotiated: unknown
    const { port, connections } = await receiver(answerOk, {
      tls: true,
      onConnect: (socket) => {
        const { servername, alpnProtocol } = socket as unknown as { servername: string; alpnProtocol: string }
        negotiated = { servername, alpnProtocol }
      },
    })
    const one = transport({ lookup, tls: { ca: { only: TEST_CERTIFICATE } } })
    const first = await one.send(post(url(port)))
    expect(first).toMatchObject({ statusCode: 200, timings: { dns: expect.any(Number), tls: expect.any(Number) } })
    expect(negotiated).toEqual({ servername: 'receiver.test', alpnProtocol: 'http/1.1' })
    expect((await one.send(post(url(port)))).timings.tls).toBeNull()
    expect(connections()).toBe(1)
    expect(await one.send(post(url(port, '127.0.0.1')))).toMatchObject({ statusCode: 200 })
  })

  test.each([
    ['a self-signed certificate', 'receiver.test', {}, /not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\)/],
    ['a certificate for another name', 'other.test', { ca: { only: TEST_CERTIFICATE } }, /another host name/],
  ])('%s is refused before anything is sent', async (_name, host, tls, message) => {
    const { port, requests } = await receiver(answerOk, { tls: true })
    const result = await transport({ lookup, tls }).send(post(url(port, host)))
    expect(result).toMatchObject({ kind: 'error', code: 'TLS_FAILED', message: expect.stringMatching(message) })
    expect(result.timings.tls).not.toBeNull()
    expect(requests()).toBe(0)
  })

  test('verification can be switched off, for tests', async () => {
    const { port } = await receiver(answerOk, { tls: true })
    const one = transport({ lookup, tls: { rejectUnauthorized: false } })
    expect(await one.send(post(url(port, 'other.test')))).toMatchObject({ statusCode: 200 })
  })

  test('a reused connection that is lost is stale under TLS too', async () => {
    const { port } = await receiver((request) => (request.request === 1 ? answerOk(request) : request.socket.end()), {
      tls: true,
    })
    const one = transport({ lookup, tls: { ca: { only: TEST_CERTIFICATE } } })
    await one.send(post(url(port)))
    expect(await one.send(post(url(port)))).toMatchObject({ code: 'CONNECTION_RESET', staleConnection: true })
  })
})
