import { describe, expect, test } from 'vitest'
import { createAddressPolicy, isPublicAddress, refusalOfAddress } from './address-guard.ts'

describe('addresses in every form', () => {
  test.each([
    ['127.0.0.1', 'loopback'],
    ['127.1', 'loopback'],
    ['2130706433', 'loopback'],
    ['0x7f000001', 'loopback'],
    ['0177.0.0.1', 'loopback'],
    ['127.0.0.1.', 'loopback'],
    ['::1', 'loopback'],
    ['[::1]', 'loopback'],
    ['0:0:0:0:0:0:0:1', 'loopback'],
    ['::ffff:7f00:1', 'IPv4-mapped'],
    ['::ffff:127.0.0.1', 'IPv4-mapped'],
    ['::127.0.0.1', 'IPv4-compatible'],
    ['64:ff9b::127.0.0.1', 'NAT64'],
    ['2002:7f00:1::', '6to4'],
    ['fe80::1%eth0', 'not an IP address'],
    ['2606:4700::1111%eth0', 'not an IP address'],
    ['example.com', 'not an IP address'],
    ['', 'not an IP address'],
    ['256.1.1.1', 'not an IP address'],
    ['1.2.3.4.5', 'not an IP address'],
    ['4294967296', 'not an IP address'],
    ['08.8.8.8', 'not an IP address'],
    ['8.8.8.8 ', 'not an IP address'],
    ['1..2', 'not an IP address'],
    ['.', 'not an IP address'],
    [Uint8Array.of(10, 0, 0, 1), 'private'],
    [Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 8, 8, 8, 8), 'IPv4-mapped'],
    [Uint8Array.of(8, 8, 8), 'not an IP address'],
  ])('%s is refused: it %s', (address, reason) => {
    expect(refusalOfAddress(address)).toContain(reason)
    expect(isPublicAddress(address)).toBe(false)
  })

  test.each([
    '8.8.8.8',
    '134744072',
    '0x08.8.8.8',
    '010.8.8.8',
    '2606:4700:4700::1111',
    '[2606:4700:4700::1111]',
    Uint8Array.of(8, 8, 8, 8),
  ])('%s is public', (address) => expect(refusalOfAddress(address)).toBeNull())

  test('the edges of every refused IPv4 block, and only they', () => {
    for (const [first, last] of [
      ['0.0.0.0', '0.255.255.255'],
      ['10.0.0.0', '10.255.255.255'],
      ['100.64.0.0', '100.127.255.255'],
      ['127.0.0.0', '127.255.255.255'],
      ['169.254.0.0', '169.254.255.255'],
      ['172.16.0.0', '172.31.255.255'],
      ['192.0.0.0', '192.0.0.255'],
      ['192.0.2.0', '192.0.2.255'],
      ['192.88.99.0', '192.88.99.255'],
      ['192.168.0.0', '192.168.255.255'],
      ['198.18.0.0', '198.19.255.255'],
      ['198.51.100.0', '198.51.100.255'],
      ['203.0.113.0', '203.0.113.255'],
    ] as const) {
      expect([first, last].map(isPublicAddress)).toEqual([false, false])
      if (first !== '0.0.0.0') expect(isPublicAddress(String(toNumber(first) - 1)), `before ${first}`).toBe(true)
      expect(isPublicAddress(String(toNumber(last) + 1)), `after ${last}`).toBe(true)
    }
    expect(isPublicAddress('223.255.255.255')).toBe(true)
    for (let block = 224; block <= 255; block++) expect(isPublicAddress(`${block}.1.1.1`)).toBe(false)
  })

  test('the edges of every refused IPv6 block within global unicast, and only they', () => {
    for (const [first, last, before, after] of [
      ['2001::', '2001:1ff:ffff:ffff::ffff', '2000:ffff:ffff::1', '2001:200::'],
      ['2001:db8::', '2001:db8:ffff:ffff::ffff', '2001:db7:ffff::1', '2001:db9::'],
      ['2002::', '2002:ffff:ffff:ffff::ffff', '2001:ffff:ffff::1', '2003::'],
      ['3fff::', '3fff:fff:ffff:ffff::ffff', '3ffe:ffff:ffff::1', '3fff:1000::'],
    ] as const) {
      expect([first, last].map(isPublicAddress), first).toEqual([false, false])
      expect([before, after].map(isPublicAddress), first).toEqual([true, true])
    }
  })

  test.each([
    ['::5efe:7f00:1', 'global unicast'],
    ['::7f00:1', 'IPv4-compatible'],
    ['::ffff:0:127.0.0.1', 'IPv4-translated'],
    ['64:ff9b::', 'NAT64'],
    ['64:ff9b::ffff:ffff', 'NAT64'],
    ['64:ff9b:1::', 'local NAT64'],
    ['64:ff9b:1:ffff:ffff:ffff:ffff:ffff', 'local NAT64'],
    ['100::', 'discard-only'],
    ['100:0:0:1::1', 'dummy prefix'],
    ['1fff:ffff:ffff:ffff::1', 'global unicast'],
    ['4000::', 'global unicast'],
    ['5f00::1', 'segment-routing'],
    ['fc00::1', 'unique local'],
    ['fdff:ffff::1', 'unique local'],
    ['fd00:ec2::254', 'unique local'],
    ['fe80::1', 'link-local'],
    ['febf:ffff::1', 'link-local'],
    ['fec0::1', 'site-local'],
    ['ff02::1', 'multicast'],
  ])('%s, outside of global unicast, says that it is %s', (address, reason) => {
    expect(refusalOfAddress(address)).toContain(reason)
  })
})

function toNumber(address: string): number {
  return address.split('.').reduce((value, byte) => value * 256 + Number(byte), 0)
}

describe('policy', () => {
  test('allows blocks of its own, of the same family only', () => {
    const policy = createAddressPolicy({ allowedCidrs: ['127.0.0.0/8', '::1'] })
    expect(policy.checkAddress('127.9.9.9')).toEqual({ allowed: true })
    expect(policy.checkAddress('::1')).toEqual({ allowed: true })
    expect(policy.checkAddress('::2').allowed).toBe(false)
    expect(policy.checkAddress('10.0.0.1').allowed).toBe(false)
    expect(policy.checkAddress('::ffff:127.0.0.1').allowed).toBe(false)
  })

  test('denies blocks of its own, over what is public and what is allowed', () => {
    const policy = createAddressPolicy({
      allowedCidrs: ['10.0.0.0/8'],
      deniedCidrs: ['8.8.8.0/24', '10.1.0.0/16', '2a00:1::/96'],
    })
    expect(policy.checkAddress('8.8.8.8')).toEqual({ allowed: false, reason: 'is denied here' })
    const allowed = (address: string) => policy.checkAddress(address).allowed
    expect(['8.8.8.255', '134744072', '10.1.2.3', '2a00:1::a00:1'].some(allowed)).toBe(false)
    expect(['8.8.9.0', '10.2.0.0', '2a00:1:0:0:0:1::'].every(allowed)).toBe(true)
  })

  test('an odd prefix length is compared by bits', () => {
    const policy = createAddressPolicy({ allowedCidrs: ['10.0.0.0/13', 'fd00:8000::/17'] })
    const allowed = (address: string) => policy.checkAddress(address).allowed
    expect(['10.7.255.255', '10.8.0.0', 'fd00:ffff::1', 'fd00:7fff::1'].map(allowed)).toEqual([
      true,
      false,
      true,
      false,
    ])
  })

  test('hosts: exact, wildcard, denied over allowed, case and international names', () => {
    const policy = createAddressPolicy({
      allowedHosts: ['example.com', '*.Example.org', 'bücher.example'],
      deniedHosts: ['bad.example.org', '*.bad.example.org'],
    })
    const allowed = (host: string) => policy.checkHost(host).allowed
    expect(['example.com', 'a.example.org', 'a.b.example.org', 'xn--bcher-kva.example'].every(allowed)).toBe(true)
    expect(
      ['a.example.com', 'example.org', 'evilexample.org', 'bad.example.org', 'x.bad.example.org'].some(allowed),
    ).toBe(false)
    expect(createAddressPolicy({ deniedHosts: ['8.8.8.8'] }).checkHost('8.8.8.8').allowed).toBe(false)
  })

  test('ports', () => {
    const policy = createAddressPolicy({ allowedPorts: [443, 8443] })
    expect([443, 8443, 22, 0].map((port) => policy.checkPort(port).allowed)).toEqual([true, true, false, false])
    expect(createAddressPolicy().checkPort(1).allowed).toBe(true)
  })

  test.each([
    { allowedCidrs: ['localhost'] },
    { deniedCidrs: ['10.0.0.0/33'] },
    { allowHttp: 'false' as unknown as boolean },
    { allowedCidrs: '10.0.0.0/8' as unknown as string[] },
    { allowedHosts: 'example.com' as unknown as string[] },
    { allowedCidrs: ['10.0.0.0/33'] },
    { allowedCidrs: ['10.0.0.0/'] },
    { allowedCidrs: ['10/8'] },
    { allowedCidrs: ['fe80::1%eth0/64'] },
    { allowedPorts: [0] },
    { allowedPorts: [65_536] },
    { allowedHosts: [''] },
    { allowedHosts: ['https://example.com'] },
    { allowedHosts: ['example.com:443'] },
    { deniedHosts: ['a.*.example.com'] },
  ])('%o is refused as configuration', (options) => {
    expect(() => createAddressPolicy(options)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })
})
