/** What a hostile caller may send to the API: too much of it, text that means more than it says, and patterns made to be slow. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createAddressPolicy } from '../../packages/core/src/http-client/address-guard.ts'
import { checkEndpointUrl } from '../../packages/core/src/http-client/url-policy.ts'
import { adapters, type Mounted } from './adapters.ts'
import { type Answer, type CallOptions, call } from './client.ts'
import { freshAccount, startTestApi, type TestApi } from './management-api.ts'

let api: TestApi
let mounted: Mounted
let account: string
beforeAll(async () => {
  api = await startTestApi({ maxEndpointsPerAccount: 3 })
  mounted = await adapters.at(-1)!.mount(api, { prefix: '/hooks' })
})
afterAll(async () => {
  await mounted.close()
  await api.stop()
})
beforeEach(() => {
  account = freshAccount()
})

const BODY = { url: 'https://your-app.com/hooks', events: ['*'] }
const send = (method: string, path: string, options: CallOptions = {}): Promise<Answer> =>
  call(mounted, method, path, { account, ...options })
const create = (more: object): Promise<Answer> => send('POST', '/', { body: { ...BODY, ...more } })
const many = (count: number, of: (n: number) => [string, unknown]) =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => of(n)))

describe('size limits: of every member, the longest is taken and one more is not', () => {
  const limits: [member: string, of: (size: number) => unknown, most: number][] = [
    ['url', (n) => `https://your-app.com/${'x'.repeat(n - 21)}`, 2_048],
    ['events', (n) => Array.from({ length: n }, () => 'commission.approved'), 100],
    ['secret', (n) => '🔑'.repeat(n), 256],
    ['description', (n) => 'x'.repeat(n), 1_000],
    ['headers', (n) => many(n, (i) => [`X-${i}`, 'v']), 20],
    ['headers', (n) => ({ ['x'.repeat(n)]: 'v' }), 100],
    ['headers', (n) => ({ 'X-A': 'v'.repeat(n) }), 2_048],
    ['metadata', (n) => many(n, (i) => [`m${i}`, 'v']), 50],
    ['metadata', (n) => ({ ['m'.repeat(n)]: 'v' }), 64],
    ['metadata', (n) => ({ m: 'v'.repeat(n) }), 500],
    ['max_concurrency', (n) => n, 1_000],
    ['rate_limit', (limit) => ({ limit, per: 'second' }), 100_000],
  ]
  test.each(limits)('%s %#', async (member, of, most) => {
    expect((await create({ [member]: of(most) })).status).toBe(201)
    const refused = await create({ [member]: of(most + 1) })
    expect([refused.status, refused.json.errors[0]?.path.startsWith(member)]).toEqual([422, true])
    // However much was sent, the answer is short.
    const flood = await create({ [member]: of(most * 20) })
    expect([413, 422]).toContain(flood.status)
    expect(flood.text.length).toBeLessThan(50_000)
  })

  test('rotation, test, replay, queries and keys', async () => {
    const { json: endpoint } = await create({})
    const path = `/${endpoint.id}`
    const since = '2024-01-01T00:00:00Z'
    const refused: [string, string, CallOptions?][] = [
      ['POST', `${path}/rotate-secret`, { body: { secret: 'x'.repeat(257) } }],
      ['POST', `${path}/rotate-secret`, { body: { overlap_seconds: 604_801 } }],
      ['POST', `${path}/test`, { body: { event: 'x'.repeat(10_000) } }],
      ['POST', `${path}/replay`, { body: { since, which: 'x'.repeat(10_000) } }],
      ['POST', `${path}/replay`, { body: { since: '9'.repeat(10_000), which: 'all' } }],
      ['GET', '/?limit=101'],
      ['GET', `/?limit=${'1'.repeat(5_000)}`],
      ['GET', `/?cursor=${'A'.repeat(10_000)}`],
      ['GET', `${path}/deliveries?event=${'x'.repeat(10_000)}`],
      ['GET', `${path}/deliveries?status=${'x'.repeat(10_000)}`],
      ['GET', `${path}/stats?since=${'1'.repeat(10_000)}`],
      ['POST', '/', { body: BODY, headers: { 'idempotency-key': 'x'.repeat(256) } }],
    ]
    for (const [method, target, options] of refused) {
      const answer = await send(method, target, options)
      expect([target.slice(0, 60), answer.status]).toEqual([target.slice(0, 60), 422])
      expect(answer.text.length).toBeLessThan(20_000)
    }
    const unknown = await send('GET', `/${'x'.repeat(10_000)}`)
    expect(unknown.status).toBe(404)
    expect(unknown.text.length).toBeLessThan(1_000)
  })
})

test('objects with thousands of members are refused before each of them is looked at', async () => {
  // Wrong ones, which would otherwise be listed one by one.
  for (const [path, body] of [
    ['metadata', { metadata: many(9_000, (n) => [`m${n}`, n]) }],
    ['headers', { headers: many(9_000, (n) => [`X-${n}`, n]) }],
    ['', many(9_000, (n) => [`unknown${n}`, n])],
  ] as const) {
    const refused = await create(body)
    expect([refused.status, refused.json.errors.map((error) => error.path)]).toEqual([422, [path]])
  }
})

test('a limit of endpoints per account, which others do not share', async () => {
  for (let n = 0; n < 3; n++) expect((await create({})).status).toBe(201)
  const refused = await create({})
  expect([refused.status, refused.json.code]).toEqual([409, 'ENDPOINT_LIMIT_REACHED'])
  account = freshAccount()
  expect((await create({})).status).toBe(201)
})

describe('header injection is refused', () => {
  const injected = [
    'a\r\nX-Injected: 1',
    'a\nb',
    'a\rb',
    'a\u0000b',
    'a\u000bb',
    'a\u0085b',
    'a\u2028b',
    'ａ',
    '\u{1f600}',
  ]
  test.each(injected)('in the value %j', async (value) => {
    const answer = await create({ headers: { 'X-A': value } })
    expect([answer.status, answer.json.errors[0]?.path]).toEqual([422, 'headers.X-A'])
  })

  test.each([
    'X-A: b',
    'X-A\r\nX-B',
    'X A',
    '',
    'X-A\u0000',
    ':authority',
    'Ｈost',
    'X-Ä',
    'Content-Length',
    'transfer-encoding',
  ])('in the name %j', async (name) => {
    expect((await create({ headers: { [name]: 'v' } })).status).toBe(422)
  })
})

describe('names of hosts are normalised before they are judged', () => {
  test.each([
    'https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/',
    'https://１２７.０.０.１/',
    'https://127。0。0。1/',
    'https://0x7f.1/',
    'https://LOCALHOST/',
    'https://[::ffff:127.0.0.1]/',
    'https://private.ｅｘａｍｐｌｅ/',
    'https://pri\u00advate.example/',
  ])('%s is refused', async (url) => {
    const answer = await create({ url })
    expect([answer.status, answer.json.code]).toEqual([422, 'URL_REFUSED'])
  })

  test('an international name is taken, and goes out as punycode', async () => {
    const { status, json } = await create({ url: 'https://bücher.example/größe' })
    expect([status, (json as unknown as { url: string }).url]).toEqual([201, 'https://bücher.example/größe'])
    const sent = checkEndpointUrl('https://bücher.example/größe', createAddressPolicy())
    expect(sent).toEqual({ ok: true, url: 'https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe' })
  })
})

test('members of prototypes are members like others, and change nothing', async () => {
  const headers = { 'content-type': 'application/json' }
  for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
    for (const body of [
      `{"url":"https://your-app.com","events":["*"],"${name}":{"active":false,"status":500}}`,
      `{"url":"https://your-app.com","events":["*"],"metadata":{"${name}":{"x":1}}}`,
      `{"url":"https://your-app.com","events":["${name}"]}`,
      `{"url":"https://your-app.com","events":["*"],"rate_limit":{"${name}":{"limit":1}}}`,
    ]) {
      expect([422, 201]).toContain((await send('POST', '/', { headers, init: { body } })).status)
    }
    expect((await send('GET', `/?${name}=x&active=true`)).status).toBe(200)
    expect((await send('GET', `/${name}`)).status).toBe(404)
  }
  expect(({} as Record<string, unknown>).active).toBeUndefined()
  expect(Object.keys(Object.prototype)).toEqual([])
})

test('no input makes a pattern slow (ReDoS)', async () => {
  const long = 200_000
  const inputs: object[] = [
    { url: `https://${'a.'.repeat(1_000)}` },
    { url: `https://${'@'.repeat(2_000)}` },
    { url: `https:${'/'.repeat(2_040)}` },
    { url: `${'a'.repeat(long)}:` },
    { secret: `whsec_${'A'.repeat(long)}!` },
    { secret: ' '.repeat(long) },
    { headers: { 'X-A': `${' '.repeat(long)}\u0001` } },
    { headers: { 'X-A': `a${'\t a'.repeat(long / 4)}\u0001` } },
    { headers: { [`${'a-'.repeat(long / 4)} `]: 'v' } },
    { events: [`${'a.'.repeat(long / 4)}*`] },
    { events: [`${'*.'.repeat(long / 4)}`] },
    { metadata: { m: '\ud800'.repeat(20_000) } },
  ]
  const startedAt = performance.now()
  for (const input of inputs) expect((await create(input)).status).toBe(422)
  for (const type of [`application/${'a+'.repeat(8_000)}`, `application/json;${' charset = x;'.repeat(1_000)}`]) {
    await send('POST', '/', { headers: { 'content-type': type }, init: { body: '{}' } })
  }
  await send('GET', `/${'%2e'.repeat(5_000)}`)
  await send('GET', `/?since=${'1'.repeat(8_000)}&until=${'-'.repeat(8_000)}`)
  // Measured 30 ms for all of it; one that goes back and forth over 200,000 characters takes hours.
  expect(performance.now() - startedAt).toBeLessThan(10_000)
}, 60_000)

test('whole numbers are whole, and within what a number holds', async () => {
  for (const value of [1.5, -1, 0, 2 ** 53, '1', true]) {
    for (const member of [{ max_concurrency: value }, { rate_limit: { limit: value, per: 'second' } }]) {
      expect((await create(member)).status).toBe(422)
    }
  }
  const { json } = await create({ max_concurrency: 7 })
  for (const overlap of [0.5, -1, 2 ** 53, '60']) {
    const body = { overlap_seconds: overlap }
    expect((await send('POST', `/${json.id}/rotate-secret`, { body })).status).toBe(422)
  }
})

describe('what is refused says what to do', () => {
  const ID = '0192f0c4a5b87d3e9f10a2b3c4d5e6f7'
  test.each([
    ['POST', '/', {}, 'url: This is required. events: This is required.'],
    ['POST', '/', { ...BODY, metadata: { '': 'x' } }, "metadata.: The member's name cannot be: "],
    ['POST', '/', { ...BODY, metadata: { 'a\u0000': 'x' } }, 'The text holds a NUL character'],
    ['GET', '/events?since=2025-01-20', undefined, 'such as 2025-01-20T14:30:00Z'],
    // Its + means a space.
    ['GET', '/events?until=2025-01-20T14:30:00+02:00', undefined, '+ is %2B'],
    ['GET', `/deliveries/ep_${ID}`, undefined, 'not the id of a delivery: those are dlv_ and 32 hex digits'],
    ['GET', '/deliveries', undefined, '"deliveries" is not the id of an endpoint: those are ep_ and 32 hex digits'],
    ['GET', `/ep_${ID}`, undefined, `There is no endpoint ep_${ID}.`],
  ] as const)('%s %s %j', async (method, path, body, message) => {
    const answer = await send(method, path, body === undefined ? {} : { body })
    expect((answer.json as unknown as { detail: string }).detail).toContain(message)
  })
})
