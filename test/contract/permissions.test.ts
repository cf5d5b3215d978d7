/** Who may do what, and that no account finds anything of another's, over every adapter. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Permission } from '../../packages/core/src/api/index.ts'
import { type Adapter, adapters, type Mounted } from './adapters.ts'
import { call } from './client.ts'
import { seedEvent } from './delivery-log.ts'
import { freshAccount, startTestApi, type TestApi } from './management-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(() => api.stop())

const BODY = { url: 'https://your-app.com/hooks', events: ['*'] }
const PERMISSIONS: Permission[] = ['read', 'write', 'secrets', 'test', 'replay']

/** Every operation on one endpoint or on the list, and the one permission that it needs. */
const OPERATIONS: [method: string, path: string, permission: Permission, body?: unknown][] = [
  ['GET', '/', 'read'],
  ['HEAD', '/', 'read'],
  ['POST', '/', 'write', BODY],
  ['GET', '/{id}', 'read'],
  ['PATCH', '/{id}', 'write', {}],
  ['PUT', '/{id}', 'write', BODY],
  ['POST', '/{id}/rotate-secret', 'write', {}],
  ['GET', '/{id}/secret', 'secrets'],
  ['GET', '/{id}/deliveries', 'read'],
  ['GET', '/{id}/stats', 'read'],
  ['POST', '/{id}/test', 'test', {}],
  ['POST', '/{id}/replay', 'replay', { since: '2020-01-01T00:00:00Z', which: 'all' }],
  ['GET', '/deliveries/{delivery}', 'read'],
  ['POST', '/deliveries/{delivery}/retry', 'replay'],
  ['GET', '/replays/{replay}', 'read'],
  ['DELETE', '/replays/{replay}', 'replay'],
  ['GET', '/events', 'read'],
  ['GET', '/events/{event}', 'read'],
  ['GET', '/event-types', 'read'],
  ['GET', '/openapi.json', 'read'],
  ['DELETE', '/{id}', 'write'],
]

test('the table above is every operation that there is, with its permission', async () => {
  const adapter = adapters.find(({ framework }) => !framework)!
  const { json } = await call(await adapter.mount(api, { prefix: '' }), 'GET', '/openapi.json', { account: 'default' })
  const { paths } = json as unknown as { paths: Record<string, Record<string, { 'x-permission'?: Permission }>> }
  const documented = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, operation]) => {
      const permission = operation['x-permission']
      return permission === undefined ? [] : [`${method.toUpperCase()} ${path} ${permission}`]
    }),
  )
  const listed = OPERATIONS.filter(([method]) => method !== 'HEAD').map(
    ([method, path, permission]) => `${method} ${path.replaceAll(/\{\w+\}/g, '{id}')} ${permission}`,
  )
  expect(listed.toSorted()).toEqual(documented.toSorted())
})

/** The path with ids of things that exist, made where it names them. */
async function fillPath(path: string, account: string, endpoint: string): Promise<string> {
  const ids: Record<string, () => Promise<string | undefined>> = {
    id: async () => endpoint,
    event: () => seedEvent(api.sql, account, 'commission.approved'),
    async delivery() {
      await seedEvent(api.sql, account, 'commission.approved')
      return (await api.deliveries.list(account, endpoint)).data[0]?.id
    },
    replay: async () =>
      (await api.replays.start(account, endpoint, { since: '2020-01-01T00:00:00Z', which: 'all' })).id,
  }
  const [placeholder, name = ''] = /\{(\w+)\}/.exec(path) ?? []
  return placeholder === undefined ? path : path.replace(placeholder, (await ids[name]?.()) ?? '')
}

describe.each(adapters)('$name', (adapter: Adapter) => {
  let mounted: Mounted
  beforeAll(async () => {
    mounted = await adapter.mount(api, { prefix: '/hooks' })
  })
  afterAll(() => mounted.close())

  test.each(OPERATIONS)('%s %s needs %s and nothing else', async (method, path, permission, body) => {
    const account = freshAccount()
    const { json } = await call(mounted, 'POST', '/', { account, body: BODY })
    const target = await fillPath(path, account, json.id)
    const sent = body === undefined ? {} : { body }
    const others = PERMISSIONS.filter((other) => other !== permission)
    for (const permissions of [others, []]) {
      const refused = await call(mounted, method, target, { account, permissions, ...sent })
      expect(refused.status).toBe(403)
      if (method !== 'HEAD') expect(refused.json.code).toBe('FORBIDDEN')
    }
    const allowed = await call(mounted, method, target, { account, permissions: [permission], ...sent })
    expect(allowed.status).toBeLessThan(300)
  })

  test("another account's endpoints are 404, and are not in its list", async () => {
    const [owner, stranger] = [freshAccount(), freshAccount()]
    const { json: own } = await call(mounted, 'POST', '/', { account: owner, body: BODY })
    const read = await call(mounted, 'GET', `/${own.id}`, { account: owner })
    for (const [method, path, , body] of OPERATIONS) {
      if (!path.includes('{id}')) continue
      const sent = body === undefined ? {} : { body }
      const answer = await call(mounted, method, path.replace('{id}', own.id), { account: stranger, ...sent })
      expect([method, answer.status, answer.json.code]).toEqual([method, 404, 'NOT_FOUND'])
    }
    expect((await call(mounted, 'GET', '/', { account: stranger })).json.data).toEqual([])
    expect((await call(mounted, 'GET', `/${own.id}`, { account: owner })).json).toEqual(read.json)
  })
})
