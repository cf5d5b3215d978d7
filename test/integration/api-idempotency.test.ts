/** `Idempotency-Key`, and what is logged and told when something breaks. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { adapters, type Mounted } from '../contract/adapters.ts'
import { type Answer, call } from '../contract/client.ts'
import { freshAccount, startTestApi, type TestApi } from '../contract/management-api.ts'

let api: TestApi
let mounted: Mounted
beforeAll(async () => {
  api = await startTestApi()
  const adapter = adapters.find(({ framework }) => !framework)
  if (adapter === undefined) throw new Error('no fetch handler among the adapters')
  mounted = await adapter.mount(api, { prefix: '/hooks' })
})
afterAll(() => api.stop())

const BODY = { url: 'https://your-app.com/hooks', events: ['*'], secret: 'a weak secret' }

function create(account: string, key: string, body: unknown = BODY): Promise<Answer> {
  return call(mounted, 'POST', '/', { account, body, headers: { 'idempotency-key': key } })
}

async function countOf(account: string): Promise<number> {
  return (await api.endpoints.list(account)).data.length
}

describe('a POST with an Idempotency-Key', () => {
  test('answers the same again, with secret and Location, and creates once', async () => {
    const account = freshAccount()
    const first = await create(account, 'k-1')
    const again = await create(account, 'k-1')
    expect([first.status, again.status]).toEqual([201, 201])
    expect(again.json).toEqual(first.json)
    expect(again.headers.get('location')).toBe(first.headers.get('location'))
    expect([first.headers.get('idempotency-replayed'), again.headers.get('idempotency-replayed')]).toEqual([
      null,
      'true',
    ])
    expect(await countOf(account)).toBe(1)
  })

  test('at the same time, too', async () => {
    const account = freshAccount()
    const answers = await Promise.all(Array.from({ length: 10 }, () => create(account, 'k-2')))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]))
    expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1)
    expect(await countOf(account)).toBe(1)
  })

  test('with another body is 422; another account or key is another request', async () => {
    const account = freshAccount()
    await create(account, 'k-3')
    const other = await create(account, 'k-3', { ...BODY, description: 'x' })
    expect([other.status, other.json.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
    const stranger = freshAccount()
    expect((await create(stranger, 'k-3', { ...BODY, description: 'x' })).status).toBe(201)
    expect((await create(account, 'k-4')).headers.get('idempotency-replayed')).toBeNull()
    expect([await countOf(account), await countOf(stranger)]).toEqual([2, 1])
  })

  test('that was refused leaves the key free', async () => {
    const account = freshAccount()
    expect((await create(account, 'k-5', { ...BODY, events: ['nope'] })).status).toBe(422)
    expect((await create(account, 'k-5')).status).toBe(201)
  })

  test('is forgotten after 24 hours, and old answers are removed', async () => {
    const account = freshAccount()
    const first = await create(account, 'k-6')
    await create(account, 'k-7')
    await api.sql`update posthaste.api_idempotency set at = at - interval '24 hours 1 second' where account = ${account}`
    const later = await create(account, 'k-6')
    expect(later.status).toBe(201)
    expect(later.json.id).not.toBe(first.json.id)
    const left = await api.sql<{ key: string }[]>`select key from posthaste.api_idempotency where account = ${account}`
    expect(left.map(({ key }) => key)).toEqual(['k-6'])
  })

  test('leaves nothing readable in the database', async () => {
    const account = freshAccount()
    await create(account, 'k-8')
    const [row] = await api.sql`select * from posthaste.api_idempotency where account = ${account}`
    expect(row?.answer).toMatch(/^v1\.k1\./)
    expect(row?.fingerprint).toMatch(/^v1\.k1\./)
    expect(JSON.stringify(row)).not.toContain('weak')
  })

  test.each(['', ' ', 'a b', 'ü', 'x'.repeat(256)])('%j is no key', async (key) => {
    const answer = await create(freshAccount(), key)
    expect([answer.status, answer.json.code]).toEqual([422, 'IDEMPOTENCY_KEY_INVALID'])
  })
})

describe('when something breaks', () => {
  test('the answer tells nothing, and the log no secret', async () => {
    const broken = await startTestApi()
    const adapter = adapters.find(({ framework }) => !framework)
    const unlucky = (await adapter?.mount(broken, { prefix: '' })) as Mounted
    try {
      await broken.sql`alter table posthaste.endpoints add check (description <> 'refuse this')`
      const answer = await call(unlucky, 'POST', '/', {
        account: 'account-x',
        body: { ...BODY, description: 'refuse this', headers: { 'X-Key': 'header value' } },
        headers: { 'idempotency-key': 'k-9' },
      })
      expect([answer.status, answer.json.code]).toEqual([500, 'INTERNAL'])
      expect(answer.text).not.toMatch(/posthaste|check|constraint|endpoints/)
      expect(broken.log).toHaveLength(1)
      expect(broken.log[0]).toContain('violates check constraint')
      expect(broken.log[0]).toContain('createEndpoint')
      for (const hidden of ['a weak secret', 'header value', 'account-x', 'your-app.com', 'v1.k1.']) {
        expect(broken.log[0]).not.toContain(hidden)
      }
      expect((await broken.endpoints.list('account-x')).data).toEqual([])
      const kept = await broken.sql`select 1 from posthaste.api_idempotency`
      expect(kept).toHaveLength(0)
    } finally {
      await broken.stop()
    }
  })

  test('an account that the host may not name is the host’s mistake', async () => {
    const answer = await call(mounted, 'GET', '/', { account: 'x'.repeat(129) })
    expect([answer.status, answer.json.code]).toEqual([500, 'INTERNAL'])
    expect(api.log.at(-1)).toContain('authorize answered an account that cannot be')
  })
})

test("with tenancy: 'single' everything is in one account", async () => {
  const single = await startTestApi({ tenancy: 'single' })
  try {
    const request = new Request('http://localhost/', { headers: {} })
    const context = { mountPath: '', frameworkRequest: request }
    const answer = await single.handler(request, { ...context, authorize: () => ({ permissions: ['read'] }) })
    expect(await answer.json()).toEqual({ data: [], next_cursor: null })
    const other = await single.handler(request, {
      ...context,
      authorize: () => ({ account: 'elsewhere', permissions: ['read'] }),
    })
    expect(other.status).toBe(500)
  } finally {
    await single.stop()
  }
})
