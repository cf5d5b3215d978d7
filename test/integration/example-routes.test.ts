/** The examples' own routes over HTTP, on every framework; the events are those that an endpoint is sent. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createApiKeys, type Listening, type Shop } from '../../examples/affiliate/src/shop/index.ts'
import { listen as listenExpress } from '../../examples/express/src/app.ts'
import { listen as listenFastify } from '../../examples/fastify/src/app.ts'
import { listen as listenKoa } from '../../examples/koa/src/app.ts'
import { createTestProgram, type TestProgram } from './example-program.ts'

const KEY = 'sk_live_your_api_key'
let program: TestProgram
let shop: Shop
let url: string
const logged: unknown[] = []

beforeAll(async () => {
  program = await createTestProgram()
  shop = {
    program,
    // Says what reaches it, and where it believes to be mounted.
    webhooks: {
      async handler(request, { mountPath }) {
        const { pathname, search } = new URL(request.url)
        return Response.json({ mountPath, below: pathname.slice(mountPath.length) + search })
      },
    },
    apiKeys: createApiKeys([
      { key: 'sk_live_another', name: 'clerk@rebusai.com', permissions: ['read'] },
      { key: KEY, name: 'admin@rebusai.com', permissions: ['read', 'write'] },
    ]),
    log: (error) => void logged.push(error),
  }
})
beforeEach(async () => {
  logged.length = 0
  await program.reset()
})
afterAll(() => program.close())

/** What the answers are looked at for. */
interface Body {
  code?: string
  errors?: { path: string }[]
  affiliate_id?: number
  payouts?: unknown[]
  balance?: object
}

async function post(path: string, body: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  return { status: response.status, type: response.headers.get('content-type'), body: (await response.json()) as Body }
}

const john = { name: 'John Smith', email: 'john@example.com', commission_rate: 15 }

describe.each([
  ['Express', listenExpress],
  ['Fastify', listenFastify],
  ['Koa', listenKoa],
])('the example’s routes on %s', (_name, listen) => {
  let server: Listening
  beforeAll(async () => {
    server = await listen(shop, 0)
    url = `http://127.0.0.1:${server.port}/api/v1/affiliate`
  })
  afterAll(() => server.close())

  test('take a key, and no other', async () => {
    for (const Authorization of ['', 'Bearer', 'Bearer sk_live_wrong', `Basic ${KEY}`, KEY, `Bearer ${KEY}x`]) {
      const answer = await post('/affiliates', john, { Authorization })
      expect([Authorization, answer.status, answer.body.code]).toEqual([Authorization, 401, 'UNAUTHENTICATED'])
    }
    expect((await post('/affiliates', john)).status).toBe(201)
    expect(await program.events()).toHaveLength(1)
  })

  test('say who approved', async () => {
    const { body } = await post('/affiliates', john)
    const approved = await post(
      `/affiliates/${body.affiliate_id}/approve`,
      {},
      { Authorization: 'Bearer sk_live_another' },
    )
    expect(approved).toMatchObject({ status: 200, body: { status: 'approved' } })
    expect((await program.events()).at(-1)?.data).toMatchObject({ approved_by: 'clerk@rebusai.com' })
  })

  test('lead from a sign-up to a payment', async () => {
    await post('/affiliates', john)
    await post('/affiliates/1/approve', {})
    expect((await post('/affiliates/1/codes', { code: 'JOHN10', discount_percent: 10 })).status).toBe(201)
    const sale = { order_id: 1, product_name: 'Advanced Course', price: 100, code: 'JOHN10' }
    expect((await post('/conversions', sale)).body).toMatchObject({
      order_amount: 90,
      discount_amount: 10,
      commission: 13.5,
    })
    expect((await post('/commissions/1/approve', {})).body).toMatchObject({ amount: 13.5, status: 'approved' })
    expect((await post('/payout-batches', {})).body.payouts).toMatchObject([{ payout_id: 1, amount: 13.5 }])
    expect((await post('/payouts/1/process', { reference: 'TRX' })).body).toMatchObject({ status: 'processed' })
    const headers = { Authorization: `Bearer ${KEY}` }
    const affiliate = (await (await fetch(`${url}/affiliates/1`, { headers })).json()) as Body
    expect(affiliate.balance).toEqual({ currency: 'USD', payable: 0, in_payout: 0, paid: 13.5, earned: 13.5 })
    expect(await (await fetch(`${url}/ledger/audit`, { headers })).json()).toEqual({ faults: [] })
  })

  test('refuse what is wrong, with the reason', async () => {
    const invalid = await post('/affiliates', { name: '', email: 'nobody' })
    expect(invalid).toMatchObject({ status: 422, type: expect.stringContaining('application/problem+json') })
    expect(invalid.body.errors?.map((error) => error.path)).toEqual(['name', 'email'])
    expect((await post('/affiliates', '{"name":')).status).toBe(400)
    expect((await post('/affiliates/7/approve', {})).body.code).toBe('AFFILIATE_NOT_FOUND')
    expect((await post('/affiliates/x/approve', {})).status).toBe(404)
    expect((await post('/affiliates/99999999999/approve', {})).status).toBe(404)
    expect((await post('/nothing', {})).body.code).toBe('NOT_FOUND')
    await post('/affiliates', john)
    expect((await post('/affiliates', john)).body.code).toBe('EMAIL_TAKEN')
    const text = await post('/affiliates', 'name=John', { 'Content-Type': 'text/plain' })
    expect(text.status).toBeGreaterThanOrEqual(400)
    expect(text.status).toBeLessThan(500)
    const large = await post('/affiliates', { ...john, website: `https://example.com/${'x'.repeat(200_000)}` })
    expect([large.status, large.body.code]).toEqual([413, 'BAD_REQUEST'])
    expect(logged).toEqual([])
  })

  test('answer where a new affiliate is, and lead customers on', async () => {
    const created = await fetch(`${url}/affiliates`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(john),
    })
    expect(created.headers.get('location')).toBe('/api/v1/affiliate/affiliates/1')
    await post('/affiliates/1/approve', {})
    await post('/affiliates/1/links', { slug: 'john', target_url: 'https://shop.example/course?a=b' })
    const link = new URL('/r/john', url)
    const followed = await fetch(link, { redirect: 'manual', headers: { Referer: 'https://blog.example/' } })
    expect([followed.status, followed.headers.get('location'), followed.headers.get('cache-control')]).toEqual([
      302,
      'https://shop.example/course?a=b&click_id=1',
      'no-store',
    ])
    expect((await program.events()).at(-1)).toMatchObject({
      type: 'link.clicked',
      data: { referrer: 'https://blog.example/' },
    })
    const unknown = await fetch(new URL('/r/nobody', url), { redirect: 'manual' })
    expect([unknown.status, ((await unknown.json()) as Body).code]).toEqual([404, 'LINK_NOT_FOUND'])
  })

  test('leave Posthaste its own, with the slash and without', async () => {
    for (const below of ['', '/', '/ep_1/deliveries?limit=1']) {
      const answer = (await (await fetch(`${url}/webhooks${below}`)).json()) as { mountPath: string; below: string }
      expect(answer.mountPath).toBe('/api/v1/affiliate/webhooks')
      // A slash at the end is neither here nor there.
      expect(answer.below.replace(/^\/$/, '')).toBe(below.replace(/^\/$/, ''))
    }
  })

  test('log unexpected errors and say nothing of them', async () => {
    program.failNextEmit('affiliate.created')
    const answer = await post('/affiliates', john)
    expect(answer).toMatchObject({ status: 500, body: { code: 'INTERNAL' } })
    expect(JSON.stringify(answer.body)).not.toContain('as the test asked')
    expect(String(logged[0])).toContain('as the test asked')
    expect(await program.sql`select 1 from affiliates`).toHaveLength(0)
  })
})
