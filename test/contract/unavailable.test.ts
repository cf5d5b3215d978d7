/** What every route answers while the database cannot: away, not migrated, behind; and from a copy of another installation. */
import { createWebhooks } from '@posthaste/core'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { startReceiver } from '../support/receiver.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { until } from '../support/until.ts'
import { type TestOptions, type TestWebhooks, withTestOptions } from '../support/webhooks-under-test.ts'
import { adapters, type Mounted } from './adapters.ts'
import { call } from './client.ts'

const ACCOUNT = 'default'
const ID = '0192f0c4a5b87d3e9f10a2b3c4d5e6f7'
/** What a write needs to get as far as the database. */
const BODIES: Readonly<Record<string, unknown>> = {
  'POST /': { url: 'http://127.0.0.1:9/hook', events: ['*'] },
  'PUT /{id}': { url: 'http://127.0.0.1:9/hook', events: ['*'] },
  'PATCH /{id}': { description: 'x' },
  'POST /{id}/rotate-secret': {},
  'POST /{id}/replay': { since: '2025-01-01T00:00:00Z', which: 'all' },
  'POST /{id}/test': {},
}
/** They answer from memory. */
const WITHOUT_DATABASE = ['/event-types', '/openapi.json', '/jwks.json']

let database: TestDatabase
const made: TestWebhooks[] = []
const log: string[] = []

beforeAll(async () => {
  database = await createTestDatabase()
})
afterEach(async () => {
  log.length = 0
  await Promise.all(made.splice(0).map((one) => one.stop()))
})
afterAll(() => database.drop())

function openOn(url: string, options: TestOptions = {}): TestWebhooks {
  const write = (message: string, fields?: Record<string, unknown>) =>
    void log.push(`${message} ${JSON.stringify(fields)}`)
  const logger = { debug() {}, info() {}, warn: write, error: write }
  const webhooks = createWebhooks(withTestOptions(url, { logger, ...options }))
  made.push(webhooks)
  return webhooks
}

async function mount(webhooks: TestWebhooks): Promise<Mounted> {
  const adapter = adapters.find(({ framework }) => !framework)!
  return await adapter.mount(webhooks, { prefix: '/hooks' })
}

/** Every operation of the document, with ids that look right. */
async function operations(api: Mounted): Promise<{ method: string; path: string; body?: unknown }[]> {
  const { json } = await call(api, 'GET', '/openapi.json', { account: ACCOUNT })
  const { paths } = json as unknown as { paths: Record<string, Record<string, object>> }
  return Object.entries(paths).flatMap(([template, item]) => {
    const prefix = template.startsWith('/deliveries') ? 'dlv' : template.startsWith('/replays') ? 'rpl' : 'ep'
    const path = template.replace('{id}', `${template.startsWith('/events') ? 'evt' : prefix}_${ID}`)
    return Object.keys(item)
      .filter((name) => name !== 'parameters')
      .map((name) => {
        const method = name.toUpperCase()
        const body = BODIES[`${method} ${template}`]
        return { method, path, ...(body === undefined ? {} : { body }) }
      })
  })
}

async function expectUnavailable(api: Mounted): Promise<void> {
  const all = await operations(api)
  expect(all.length).toBeGreaterThanOrEqual(20)
  for (const { method, path, body } of all) {
    const keys: Record<string, string>[] =
      method === 'POST' ? [{}, { 'idempotency-key': `k ${path}`.replaceAll(/\W/g, '') }] : [{}]
    for (const headers of keys) {
      const answer = await call(api, method, path, { account: ACCOUNT, headers, body })
      if (WITHOUT_DATABASE.includes(path)) {
        expect([method, path, answer.status]).toEqual([method, path, 200])
        continue
      }
      expect([method, path, answer.status, answer.json.code]).toEqual([method, path, 503, 'UNAVAILABLE'])
      expect(answer.headers.get('content-type')).toBe('application/problem+json')
      expect(answer.headers.get('retry-after')).toBe('5')
      // Nothing of ours in it: no table, no address.
      expect(answer.text).not.toMatch(/posthaste|127\.0\.0\.1|migrat/)
    }
  }
}

describe('every route answers 503 with Retry-After', () => {
  test('while nothing listens where the database should be', { timeout: 60_000 }, async () => {
    await expectUnavailable(await mount(openOn('postgres://nobody:secret@127.0.0.1:1/nothing')))
    expect(log[0]).toContain('ECONNREFUSED')
    expect(log.join('\n')).not.toContain('secret')
  })

  test('while the schema is not there, and the log says what to do', async () => {
    await expectUnavailable(await mount(openOn(database.url)))
    expect(log[0]).toContain('NOT_MIGRATED')
    expect(log[0]).toContain('call webhooks.migrate()')
  })

  test('after stop()', async () => {
    const webhooks = openOn(database.url)
    const api = await mount(webhooks)
    await webhooks.stop()
    await expectUnavailable(api)
  })
})

describe('a migrated database', () => {
  beforeAll(async () => {
    const webhooks = createWebhooks(withTestOptions(database.url))
    await webhooks.migrate()
    await webhooks.stop()
  })

  test('that goes away and comes back: 503, and then as before', { timeout: 60_000 }, async () => {
    const proxy = await startTcpProxy(database.url)
    try {
      const api = await mount(openOn(proxy.url))
      const list = async () => (await call(api, 'GET', '/', { account: ACCOUNT })).status
      expect(await list()).toBe(200)
      proxy.cut()
      for (let n = 0; n < 3; n++) expect(await list()).toBe(503)
      proxy.mend()
      await until('the database to be found again', async () => (await list()) === 200, 30_000)
    } finally {
      await Promise.all(made.splice(0).map((one) => one.stop()))
      await proxy.close()
    }
  })

  test('that lags behind this version: 503 where something is missing, and the rest works', async () => {
    const sql = postgres(database.url, { max: 1, onnotice: () => {} })
    const api = await mount(openOn(database.url))
    await sql`alter table posthaste.replays rename to replays_of_later`
    try {
      const missing = await call(api, 'GET', `/replays/rpl_${ID}`, { account: ACCOUNT })
      expect([missing.status, missing.json.code]).toEqual([503, 'UNAVAILABLE'])
      expect(log.join('\n')).toMatch(/NOT_MIGRATED/)
      expect((await call(api, 'GET', '/', { account: ACCOUNT })).status).toBe(200)
    } finally {
      await sql`alter table posthaste.replays_of_later rename to replays`
      await sql.end()
    }
  })

  test('that belongs to another installation: a test send is 409 and says what to do; nothing is sent', async () => {
    const receiver = await startReceiver()
    try {
      const original = openOn(database.url)
      const { id } = await original.endpoints.create(ACCOUNT, { url: receiver.url('/copy'), events: ['*'] })
      const copy = await mount(openOn(database.url, { installation: 'staging' }))
      const refused = await call(copy, 'POST', `/${id}/test`, { account: ACCOUNT })
      expect([refused.status, refused.json.code]).toEqual([409, 'INSTALLATION_MISMATCH'])
      expect((refused.json as unknown as { detail: string }).detail).toContain('adopt(')
      expect(receiver.requests()).toEqual([])
      // A caller's matter, so it is no error in the log.
      expect(log).toEqual([])
      for (const path of ['/', `/${id}`, `/${id}/deliveries`, `/${id}/stats`, '/events']) {
        expect([path, (await call(copy, 'GET', path, { account: ACCOUNT })).status]).toEqual([path, 200])
      }
      const allowed = await call(await mount(original), 'POST', `/${id}/test`, { account: ACCOUNT })
      expect([allowed.status, receiver.requests().length]).toEqual([200, 1])
    } finally {
      await receiver.close()
    }
  })
})
