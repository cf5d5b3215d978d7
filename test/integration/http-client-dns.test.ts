/** Names, asked of a real name server: one that is silent for some costs nobody else anything; one that changes its answer gains nothing. */
import { rmSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../packages/core/src/clock.ts'
import { createAddressPolicy } from '../../packages/core/src/http-client/address-guard.ts'
import { createConnector } from '../../packages/core/src/http-client/connector.ts'
import { createSystemLookup } from '../../packages/core/src/http-client/name-lookup.ts'
import { createEgressProxy } from '../../packages/core/src/http-client/proxy.ts'
import { ProxyHealth } from '../../packages/core/src/http-client/proxy-health.ts'
import { startConnectProxy } from '../support/connect-proxy.ts'
import { type DnsAnswer, type DnsServer, startDnsServer } from '../support/dns-server.ts'
import { closeAfterTest, loopback, nameServer, post, receiver, transport } from '../support/hostile-transport.ts'

async function dnsServer(answer: (name: string, type: 'A' | 'AAAA') => DnsAnswer): Promise<DnsServer> {
  const server = await startDnsServer(answer)
  closeAfterTest(() => server.close())
  return server
}

function refuseSystem(): never {
  throw new Error('the system was asked')
}

describe('name servers that never answer', () => {
  const answer = (name: string, type: 'A' | 'AAAA'): DnsAnswer => {
    if (name.startsWith('silent')) return 'silent'
    return type === 'A' ? ['127.0.0.1'] : []
  }

  test('of many names keep no other name waiting, and cost their own sends no more than the deadline', async () => {
    const server = await dnsServer(answer)
    const { port } = await receiver()
    // The system's own function behind it, as everywhere: with `getaddrinfo` for all names the last send would wait for the first.
    const one = transport({ lookup: createSystemLookup({ servers: [server.address] }) })
    const hanging = Array.from({ length: 40 }, (_, n) =>
      one.send(post(`http://silent${n}.test:${port}/`, { deadlineMs: 700 })),
    )
    const startedAt = performance.now()
    expect(await one.send(post(`http://quick.test:${port}/`))).toMatchObject({ statusCode: 200 })
    expect(performance.now() - startedAt).toBeLessThan(600)
    for (const result of await Promise.all(hanging)) {
      expect(result).toMatchObject({ kind: 'error', code: 'DNS_FAILED' })
      expect(result.timings.total).toBeLessThan(2_000)
    }
  })

  test('are given up, as too late', async () => {
    const server = await dnsServer(answer)
    const lookup = createSystemLookup({ servers: [server.address], giveUpAfterMs: 100 })
    const startedAt = performance.now()
    await expect(lookup('silent.test')).rejects.toMatchObject({ code: 'ETIMEOUT' })
    expect(performance.now() - startedAt).toBeLessThan(1_500)
  })

  test('for one family: the addresses of the other are used', async () => {
    for (const silent of ['A', 'AAAA'] as const) {
      const server = await dnsServer((_name, type) =>
        type === silent ? 'silent' : type === 'A' ? ['192.0.2.1'] : ['2001:db8::1'],
      )
      const lookup = createSystemLookup({ servers: [server.address] })
      const startedAt = performance.now()
      const expected = silent === 'A' ? { address: '2001:db8::1', family: 6 } : { address: '192.0.2.1', family: 4 }
      expect(await lookup('half.test')).toEqual([expected])
      expect(performance.now() - startedAt).toBeLessThan(1_900)
    }
  })
})

test('all addresses of a name, IPv4 first', async () => {
  const server = await dnsServer((_name, type) => (type === 'A' ? ['192.0.2.1', '192.0.2.2'] : ['2001:db8::1']))
  const lookup = createSystemLookup({ servers: [server.address], askSystem: refuseSystem })
  expect(await lookup('both.test')).toEqual([
    { address: '192.0.2.1', family: 4 },
    { address: '192.0.2.2', family: 4 },
    { address: '2001:db8::1', family: 6 },
  ])
})

test('one family is enough; a name that does not exist, or has no address, fails', async () => {
  const server = await dnsServer((name, type) => {
    if (name === 'gone.test') return 'unknown'
    return name === 'six.test' && type === 'AAAA' ? ['2001:db8::1'] : []
  })
  const lookup = createSystemLookup({ servers: [server.address], askSystem: refuseSystem })
  expect(await lookup('six.test')).toEqual([{ address: '2001:db8::1', family: 6 }])
  await expect(lookup('gone.test')).rejects.toMatchObject({ code: 'ENOTFOUND' })
  await expect(lookup('nothing.test')).rejects.toMatchObject({ code: 'ENODATA' })
})

test('the hosts file, names without a dot and those below localhost are the system’s, and no name server hears of them', async () => {
  const server = await dnsServer(() => ['192.0.2.1'])
  const hostsFile = join(tmpdir(), `posthaste-hosts-${process.pid}`)
  writeFileSync(hostsFile, '# pinned.test\n127.0.0.1 localhost\n10.0.0.7\tOther.test Named.test # not.test\n')
  closeAfterTest(async () => rmSync(hostsFile))
  const asked: string[] = []
  const lookup = createSystemLookup({
    servers: [server.address],
    hostsFile,
    askSystem: async (name) => {
      asked.push(name)
      return [{ address: '10.0.0.7', family: 4 }]
    },
  })
  const own = ['named.test', 'other.test', 'localhost', 'receiver', 'shop.localhost']
  for (const name of own) expect(await lookup(name)).toEqual([{ address: '10.0.0.7', family: 4 }])
  expect([asked, server.asked]).toEqual([own, []])
  for (const name of ['not.test', 'pinned.test', '10.0.0.7.test']) await lookup(name)
  expect(asked).toEqual(own)
})

test('a name server that changes its answer between look-ups (rebinding) leads nowhere else', async () => {
  const { port, connections } = await receiver()
  const answers = ['127.0.0.1', '127.0.0.2', '169.254.169.254']
  const server = await dnsServer((_name, type) => (type === 'AAAA' ? [] : [answers.shift() ?? '127.0.0.1']))
  const policy = createAddressPolicy({ allowHttp: true, allowedCidrs: ['127.0.0.1/32'] })
  const one = transport({ policy, lookup: createSystemLookup({ servers: [server.address] }) })
  const send = () => one.send(post(`http://rebinding.test:${port}/`, { freshConnection: true }))
  expect(await send()).toMatchObject({ statusCode: 200 })
  expect(await send()).toMatchObject({ kind: 'error', code: 'ADDRESS_REFUSED' })
  expect(await send()).toMatchObject({ kind: 'error', code: 'ADDRESS_REFUSED' })
  expect(await send()).toMatchObject({ statusCode: 200 })
  expect([connections(), server.asked.filter((one) => one.startsWith('A ')).length]).toEqual([2, 4])
})

test("the proxy's name, which the operator wrote, is looked up apart from the names of receivers", async () => {
  const { port } = await receiver()
  const proxy = await startConnectProxy()
  closeAfterTest(() => proxy.stop())
  const [receivers, proxies] = [nameServer(['127.0.0.1']), nameServer(['127.0.0.1'])]
  const connect = createConnector({
    policy: loopback,
    lookup: receivers,
    proxyLookup: proxies,
    clock: systemClock,
    proxy: createEgressProxy(`http://egress.infra:${proxy.port}`),
    proxyHealth: new ProxyHealth(systemClock, () => {}),
    sources: null,
    rejectUnauthorized: true,
  })
  const socket = await new Promise<Socket | null>((resolve, reject) => {
    connect({ hostname: 'receiver.test', port, tls: null }, (error, open) => (error ? reject(error) : resolve(open)))
  })
  socket?.destroy()
  expect([receivers.asked, proxies.asked]).toEqual([['receiver.test'], ['egress.infra']])
})
