/** Create, list, read, change, replace and delete, over every adapter. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Adapter, adapters, type Mounted } from './adapters.ts'
import { call } from './client.ts'
import { freshAccount, startTestApi, type TestApi } from './management-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(() => api.stop())

/** The body of the page's own curl command. */
const PAGE_BODY = {
  url: 'https://your-app.com/webhooks/affiliate',
  events: ['commission.approved', 'payout.processed', 'affiliate.approved'],
  secret: 'your_webhook_secret',
  active: true,
}

describe.each(adapters)('$name', (adapter: Adapter) => {
  let mounted: Mounted
  beforeAll(async () => {
    mounted = await adapter.mount(api, { prefix: '/api/v1/affiliate/webhooks' })
  })
  afterAll(() => mounted.close())

  test.each(['/', ''])("the page's request creates an endpoint, at the mount path and %j", async (path) => {
    const account = freshAccount()
    const created = await call(mounted, 'POST', path, { account, body: PAGE_BODY })
    expect(created.status).toBe(201)
    expect(created.json).toEqual({
      id: expect.stringMatching(/^ep_[0-9a-f]{32}$/),
      url: PAGE_BODY.url,
      events: PAGE_BODY.events,
      active: true,
      status: 'active',
      disabled_reason: null,
      description: null,
      headers: {},
      metadata: {},
      ordering: 'none',
      max_concurrency: null,
      rate_limit: null,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      updated_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      secret: 'your_webhook_secret',
      standard_webhooks_secret: `whsec_${Buffer.from('your_webhook_secret').toString('base64')}`,
    })
    expect(created.headers.get('location')).toBe(`/api/v1/affiliate/webhooks/${created.json.id}`)
    expect(created.headers.get('content-type')).toBe('application/json')
    expect(created.headers.get('cache-control')).toBe('no-store')

    const { secret: _, standard_webhooks_secret: __, ...shown } = created.json
    for (const slash of ['', '/']) {
      const read = await call(mounted, 'GET', `/${created.json.id}${slash}`, { account })
      expect([read.status, read.json]).toEqual([200, shown])
      const list = await call(mounted, 'GET', path, { account })
      expect([list.status, list.json]).toEqual([200, { data: [shown], next_cursor: null }])
    }
  })

  test('everything that an endpoint can have comes back, header values redacted', async () => {
    const account = freshAccount()
    const body = {
      url: 'https://hooks.example.com/a?b=c',
      events: ['commission.*', '*', 'commission.*'],
      active: false,
      description: 'Bücher & “quotes” 🎉',
      headers: { 'X-Api-Key': 'very-secret', Authorization: 'Basic abc' },
      metadata: { team: 'growth', 'key with spaces': '' },
      ordering: 'fifo',
      max_concurrency: 3,
      rate_limit: { limit: 100, per: 'minute' },
    }
    const created = await call(mounted, 'POST', '/', { account, body })
    expect(created.status).toBe(201)
    expect(created.json).toMatchObject({
      ...body,
      events: ['commission.*', '*'],
      status: 'inactive',
      headers: { 'X-Api-Key': '***', Authorization: '***' },
    })
    expect(created.json.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
    expect(created.json.standard_webhooks_secret).toBe(created.json.secret)
    expect(created.text).not.toContain('very-secret')
  })

  test('PATCH changes what is named and keeps the rest', async () => {
    const account = freshAccount()
    const { json: before } = await call(mounted, 'POST', '/', {
      account,
      body: { ...PAGE_BODY, description: 'one', headers: { 'X-A': '1', 'X-B': '2' } },
    })
    const patched = await call(mounted, 'PATCH', `/${before.id}`, {
      account,
      body: { description: null, headers: { 'x-a': '***', 'X-C': '3' }, rate_limit: { limit: 5, per: 'second' } },
    })
    const { secret: _, standard_webhooks_secret: __, updated_at, ...rest } = before
    expect(patched.status).toBe(200)
    expect(patched.json).toEqual({
      ...rest,
      description: null,
      headers: { 'x-a': '***', 'X-C': '***' },
      rate_limit: { limit: 5, per: 'second' },
      updated_at: expect.any(String),
    })
    expect(patched.json.updated_at >= updated_at).toBe(true)

    const nothing = await call(mounted, 'PATCH', `/${before.id}`, { account, body: {} })
    expect(nothing.json).toEqual(patched.json)
  })

  test('PUT replaces; what was read can be sent back', async () => {
    const account = freshAccount()
    const { json: created } = await call(mounted, 'POST', '/', {
      account,
      body: { ...PAGE_BODY, description: 'one', headers: { 'X-A': '1' }, metadata: { a: 'b' } },
    })
    const read = await call(mounted, 'GET', `/${created.id}`, { account })
    const same = await call(mounted, 'PUT', `/${created.id}`, { account, body: { ...read.json, id: 'ep_x' } })
    expect(same.status).toBe(200)
    expect(same.json).toEqual({ ...read.json, updated_at: expect.any(String) })
    // Also the answer to creation, with its secrets.
    for (const [method, path] of [
      ['PATCH', `/${created.id}`],
      ['PUT', `/${created.id}`],
      ['POST', '/'],
    ] as const) {
      const again = await call(mounted, method, path, { account, body: { ...created, headers: { 'X-A': '1' } } })
      expect([method, again.status]).toEqual([method, method === 'POST' ? 201 : 200])
    }

    const bare = await call(mounted, 'PUT', `/${created.id}`, {
      account,
      body: { url: 'https://two.example.com/', events: ['*'] },
    })
    expect(bare.json).toEqual({
      ...read.json,
      url: 'https://two.example.com/',
      events: ['*'],
      description: null,
      headers: {},
      metadata: {},
      updated_at: expect.any(String),
    })
    const incomplete = await call(mounted, 'PUT', `/${created.id}`, { account, body: { url: 'https://a.example/' } })
    expect([incomplete.status, incomplete.json.code]).toEqual([422, 'VALIDATION_FAILED'])
    expect(incomplete.json.errors).toEqual([{ path: 'events', message: expect.any(String) }])
  })

  test('DELETE answers 204 once, and then there is nothing', async () => {
    const account = freshAccount()
    const { json } = await call(mounted, 'POST', '/', { account, body: PAGE_BODY })
    const gone = await call(mounted, 'DELETE', `/${json.id}/`, { account })
    expect([gone.status, gone.text]).toEqual([204, ''])
    for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
      const body = method === 'GET' || method === 'DELETE' ? {} : { body: PAGE_BODY }
      const again = await call(mounted, method, `/${json.id}`, { account, ...body })
      expect([method, again.status, again.json.code]).toEqual([method, 404, 'NOT_FOUND'])
    }
    expect((await call(mounted, 'GET', '/', { account })).json.data).toEqual([])
  })

  test('the list goes newest first, page by page', async () => {
    const account = freshAccount()
    const ids: string[] = []
    for (let n = 0; n < 5; n++) {
      const body = { ...PAGE_BODY, active: n % 2 === 0 }
      ids.unshift((await call(mounted, 'POST', '/', { account, body })).json.id)
    }
    const seen: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const query = new URLSearchParams({ limit: '2', ...(cursor === '' ? {} : { cursor }) })
      const page = await call(mounted, 'GET', `/?${query}`, { account })
      expect(page.status).toBe(200)
      expect(page.json.data.length).toBeLessThanOrEqual(2)
      seen.push(...page.json.data.map(({ id }: { id: string }) => id))
      cursor = page.json.next_cursor
    }
    expect(seen).toEqual(ids)

    const inactive = await call(mounted, 'GET', '?active=false', { account })
    expect(inactive.json.data.map(({ id }: { id: string }) => id)).toEqual([ids[1], ids[3]])
    for (const query of ['limit=0', 'limit=101', 'limit=x', 'limit=1e1', 'active=maybe', 'cursor=nonsense']) {
      const refused = await call(mounted, 'GET', `/?${query}`, { account })
      expect([query, refused.status, refused.json.errors[0]?.path]).toEqual([query, 422, query.split('=')[0]])
    }
  })

  test('what is wrong is listed, with the path and a stable code', async () => {
    const account = freshAccount()
    const cases: [body: unknown, code: string, path: string][] = [
      [{ ...PAGE_BODY, url: 'http://your-app.com/' }, 'URL_REFUSED', 'url'],
      [{ ...PAGE_BODY, url: 'https://private.example/' }, 'URL_REFUSED', 'url'],
      [{ ...PAGE_BODY, url: 'https://127.0.0.1/' }, 'URL_REFUSED', 'url'],
      [{ ...PAGE_BODY, url: 'https://u:p@your-app.com/' }, 'URL_REFUSED', 'url'],
      [{ ...PAGE_BODY, url: `https://a.example/${'x'.repeat(2048)}` }, 'VALIDATION_FAILED', 'url'],
      [{ ...PAGE_BODY, events: ['commission.approved', 'commission.aproved'] }, 'UNKNOWN_EVENT_TYPE', 'events.1'],
      [{ ...PAGE_BODY, events: ['order.*'] }, 'UNKNOWN_EVENT_TYPE', 'events.0'],
      [{ ...PAGE_BODY, events: [] }, 'VALIDATION_FAILED', 'events'],
      [{ ...PAGE_BODY, events: Array(101).fill('*') }, 'VALIDATION_FAILED', 'events'],
      [{ ...PAGE_BODY, secret: 'short' }, 'SECRET_INVALID', 'secret'],
      [{ ...PAGE_BODY, secret: 'whsec_not base64' }, 'SECRET_INVALID', 'secret'],
      [{ ...PAGE_BODY, secret: 'has a\u0000 in it' }, 'SECRET_INVALID', 'secret'],
      [{ ...PAGE_BODY, headers: { Host: 'a' } }, 'VALIDATION_FAILED', 'headers.Host'],
      [{ ...PAGE_BODY, headers: { 'x-webhook-signature': 'a' } }, 'VALIDATION_FAILED', 'headers.x-webhook-signature'],
      [{ ...PAGE_BODY, headers: { 'X-A': 'a\r\nB: c' } }, 'VALIDATION_FAILED', 'headers.X-A'],
      [{ ...PAGE_BODY, headers: { 'X-A': '***' } }, 'VALIDATION_FAILED', 'headers.X-A'],
      [{ ...PAGE_BODY, headers: { 'X-A': '1', 'x-a': '2' } }, 'VALIDATION_FAILED', 'headers.x-a'],
      [{ ...PAGE_BODY, description: 'a\u0000b' }, 'VALIDATION_FAILED', 'description'],
      [{ ...PAGE_BODY, metadata: { a: 1 } }, 'VALIDATION_FAILED', 'metadata.a'],
      [{ ...PAGE_BODY, rate_limit: { limit: 0, per: 'second' } }, 'VALIDATION_FAILED', 'rate_limit.limit'],
      [{ ...PAGE_BODY, max_concurrency: 1.5 }, 'VALIDATION_FAILED', 'max_concurrency'],
      [{ ...PAGE_BODY, actve: false }, 'VALIDATION_FAILED', ''],
      [[], 'VALIDATION_FAILED', ''],
      ['text', 'VALIDATION_FAILED', ''],
      [null, 'VALIDATION_FAILED', ''],
      [{ secret: 'short' }, 'VALIDATION_FAILED', 'url'],
    ]
    for (const [body, code, path] of cases) {
      const refused = await call(mounted, 'POST', '/', { account, body })
      const what = JSON.stringify(body).slice(0, 200)
      expect([what, refused.status, refused.json.code]).toEqual([what, 422, code])
      expect([what, refused.json.errors[0]?.path]).toEqual([what, path])
      expect(refused.headers.get('content-type')).toBe('application/problem+json')
    }
    const unknown = await call(mounted, 'POST', '/', { account, body: { ...PAGE_BODY, events: ['nope'] } })
    expect(unknown.json.errors[0]?.message).toContain('commission.approved')
    expect((await call(mounted, 'GET', '/', { account })).json.data).toEqual([])
  })
})
