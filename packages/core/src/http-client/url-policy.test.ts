import { describe, expect, test } from 'vitest'
import { HARMLESS_URLS, HOSTILE_URLS } from '../../../../test/support/hostile-urls.ts'
import { createAddressPolicy } from './address-guard.ts'
import type { Lookup } from './name-lookup.ts'
import { checkEndpointUrl, checkEndpointUrlResolved } from './url-policy.ts'

const production = createAddressPolicy()
const development = createAddressPolicy({ allowHttp: true, allowedCidrs: ['127.0.0.0/8', '::1/128'] })

describe('without a name server', () => {
  test('the corpus is as large as promised', () => expect(HOSTILE_URLS.length).toBeGreaterThanOrEqual(150))

  test.each(HOSTILE_URLS)('%j is refused', (url, reason) => {
    const verdict = checkEndpointUrl(url, production)
    expect(verdict).toEqual({ ok: false, message: expect.stringMatching(new RegExp(reason)) })
  })

  test.each(HARMLESS_URLS)('%j is accepted', (url, normalised) => {
    expect(checkEndpointUrl(url, production)).toEqual({ ok: true, url: normalised })
  })

  test('2,048 characters are accepted', () => {
    expect(checkEndpointUrl(`https://example.com/${'a'.repeat(2_028)}`, production).ok).toBe(true)
  })

  test('a message never echoes credentials', () => {
    for (const url of ['https://user:hunter2@example.com/', 'http://user:hunter2@127.0.0.1/', 'https://hunter2@[::1']) {
      const verdict = checkEndpointUrl(url, production)
      expect(verdict.ok).toBe(false)
      expect(JSON.stringify(verdict)).not.toContain('hunter2')
    }
  })

  test.each([
    'http://localhost:3000/',
    'https://localhost/',
    'http://a.localhost/',
    'http://127.0.0.1:1/',
    'http://[::1]/',
  ])('%s is accepted while developing', (url) => expect(checkEndpointUrl(url, development)).toEqual({ ok: true, url }))

  test('what development allows is no more than it says', () => {
    expect(checkEndpointUrl('http://10.0.0.1/', development).ok).toBe(false)
    expect(checkEndpointUrl('http://[::ffff:127.0.0.1]/', development).ok).toBe(false)
  })

  test('ports and hosts of the policy', () => {
    const policy = createAddressPolicy({ allowedPorts: [443], deniedHosts: ['*.internal', '8.8.8.8'] })
    expect(checkEndpointUrl('https://example.com/', policy).ok).toBe(true)
    expect(checkEndpointUrl('https://example.com:22/', policy)).toEqual({
      ok: false,
      message: 'The port 22 is not among those allowed here (443).',
    })
    expect(checkEndpointUrl('https://db.INTERNAL/', policy).ok).toBe(false)
    expect(checkEndpointUrl('https://0x8.8.8.8/', policy).ok).toBe(false)
  })
})

describe('with a name server', () => {
  const answering =
    (...addresses: string[]): Lookup =>
    async () =>
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
  const failing =
    (code: string): Lookup =>
    async () => {
      throw Object.assign(new Error(code), { code })
    }

  test('all addresses must be public', async () => {
    const check = (lookup: Lookup) => checkEndpointUrlResolved('https://example.com/', production, lookup)
    expect(await check(answering('8.8.8.8', '2606:4700::1111'))).toEqual({ ok: true, url: 'https://example.com/' })
    for (const addresses of [['127.0.0.1'], ['8.8.8.8', '10.0.0.1'], ['8.8.8.8', '::ffff:a9fe:a9fe'], ['fe80::1%2']]) {
      const verdict = await check(answering(...addresses))
      expect(verdict.ok, addresses.join()).toBe(false)
      // What an internal name resolves to is nobody's business.
      expect(JSON.stringify(verdict)).not.toContain(addresses.at(-1))
    }
  })

  test.each(['ENOTFOUND', 'EAI_AGAIN', 'ETIMEOUT', 'ENODATA'])(
    'a name that fails with %s is accepted',
    async (code) => {
      expect((await checkEndpointUrlResolved('https://example.com/', production, failing(code))).ok).toBe(true)
    },
  )

  test('a name without an answer in time is accepted', async () => {
    const never: Lookup = () => new Promise(() => {})
    expect((await checkEndpointUrlResolved('https://example.com/', production, never, 20)).ok).toBe(true)
  })

  test('what is refused by its text is never looked up', async () => {
    const asked: string[] = []
    const lookup: Lookup = async (hostname) => {
      asked.push(hostname)
      return []
    }
    expect((await checkEndpointUrlResolved('https://localhost/', production, lookup)).ok).toBe(false)
    expect((await checkEndpointUrlResolved('https://8.8.8.8/', production, lookup)).ok).toBe(true)
    expect(asked).toEqual([])
  })
})
