/** Logs, retries, tests, replays and statistics, called in whatever order: never a 5xx, and 404 for what is another account's. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { adapters, type Mounted } from '../contract/adapters.ts'
import { call } from '../contract/client.ts'
import { dispatchAll, seedEvent } from '../contract/delivery-log.ts'
import { freshAccount, SCHEMA, startTestApi, type TestApi } from '../contract/management-api.ts'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'

let api: TestApi
let mounted: Mounted
beforeAll(async () => {
  api = await startTestApi()
  const adapter = adapters.find(({ framework }) => !framework)
  if (adapter === undefined) throw new Error('no fetch handler among the adapters')
  mounted = await adapter.mount(api, { prefix: '' })
})
afterAll(() => api.stop())

const KINDS = ['endpoint', 'event', 'delivery', 'replay'] as const
type Kind = (typeof KINDS)[number]

const anyMoment = fc
  .date({ min: new Date('1970-01-01T00:00:00Z'), max: new Date('9999-12-30T00:00:00Z'), noInvalidDate: true })
  .map((date) => date.toISOString())
const moment = fc.oneof(fc.constantFrom('2020-01-01T00:00:00Z', '2020-01-20T00:00:00+02:00'), anyMoment)
const range = { since: moment, until: moment }
const status = fc.constantFrom('pending', 'retrying', 'held', 'succeeded', 'failed', 'cancelled', 'expired')
const event = fc.constantFrom('commission.approved', 'commission.*', '*', 'link.clicked', 'no.such')
const limit = fc.integer({ min: 1, max: 100 }).map(String)
const optional = <T>(members: Record<string, fc.Arbitrary<T>>) => fc.record(members, { requiredKeys: [] })

const which = fc.constantFrom('failed', 'missing', 'all')
const attempts = fc.array(fc.record({ succeeded: fc.boolean(), final: fc.boolean() }), { maxLength: 3 })

/** Whose call it is, and which of all that were ever made it names. */
const who = { account: fc.integer({ min: 0, max: 1 }), nth: fc.nat({ max: 9 }) }
const request = (
  method: string,
  path: string,
  kind: Kind | null,
  more: { query?: fc.Arbitrary<unknown>; body?: fc.Arbitrary<unknown> } = {},
) =>
  fc.record({
    ...who,
    method: fc.constant(method),
    path: fc.constant(path),
    kind: fc.constant(kind),
    query: (more.query ?? fc.constant({})) as fc.Arbitrary<Record<string, string>>,
    body: more.body ?? fc.constant(undefined),
  })
const steps = fc.oneof(
  fc.record({
    ...who,
    emit: fc.constantFrom('commission.approved', 'link.clicked'),
    attempts,
    key: fc.option(fc.constantFrom('a', 'b')),
  }),
  request('POST', '/', null, { body: fc.constant({ url: 'https://your-app.com/hooks', events: ['*'] }) }),
  request('PATCH', '/{id}', 'endpoint', { body: fc.record({ active: fc.boolean() }) }),
  request('DELETE', '/{id}', 'endpoint'),
  request('GET', '/{id}/deliveries', 'endpoint', { query: optional({ ...range, status, event, limit }) }),
  request('GET', '/{id}/stats', 'endpoint', { query: optional(range) }),
  request('POST', '/{id}/test', 'endpoint', {
    body: optional({ event: fc.constantFrom('commission.approved', 'no.such') }),
  }),
  request('POST', '/{id}/replay', 'endpoint', {
    body: fc.record({ ...range, which }, { requiredKeys: ['since', 'which'] }),
  }),
  request('GET', '/deliveries/{id}', 'delivery'),
  request('POST', '/deliveries/{id}/retry', 'delivery'),
  request('GET', '/replays/{id}', 'replay'),
  request('DELETE', '/replays/{id}', 'replay'),
  request('GET', '/events', null, { query: optional({ ...range, event, limit }) }),
  request('GET', '/events/{id}', 'event'),
)

/** Each operation where it succeeds: chance alone may leave one out. */
const ask = (method: string, path: string, kind: Kind | null, body?: unknown, nth = 0) =>
  ({ account: 0, nth, method, path, kind, query: {}, body }) as const
const EVERY_OPERATION = [
  {
    account: 0,
    nth: 0,
    emit: 'commission.approved' as const,
    attempts: [{ succeeded: false, final: true }],
    key: null,
  },
  ask('PATCH', '/{id}', 'endpoint', { active: true }),
  ask('GET', '/{id}/deliveries', 'endpoint'),
  ask('GET', '/{id}/stats', 'endpoint'),
  ask('POST', '/{id}/test', 'endpoint', {}),
  ask('GET', '/deliveries/{id}', 'delivery'),
  ask('POST', '/deliveries/{id}/retry', 'delivery'),
  ask('GET', '/events', null),
  ask('GET', '/events/{id}', 'event'),
  ask('POST', '/{id}/replay', 'endpoint', { since: '2020-01-01T00:00:00Z', which: 'all' }),
  ask('GET', '/replays/{id}', 'replay'),
  ask('POST', '/', null, { url: 'https://your-app.com/hooks', events: ['*'] }),
  // After one of each account: the third.
  ask('DELETE', '/{id}', 'endpoint', undefined, 2),
]

/** What a call may answer that is not of another account; 404 is for what was deleted. */
const ALLOWED: Record<string, number[]> = {
  'POST /': [201],
  'PATCH /{id}': [200, 404],
  'DELETE /{id}': [204, 404],
  'GET /{id}/deliveries': [200, 422],
  'GET /{id}/stats': [200, 404, 422],
  'POST /{id}/test': [200, 404, 422],
  'POST /{id}/replay': [202, 404, 409, 422],
  'GET /deliveries/{id}': [200],
  'POST /deliveries/{id}/retry': [202, 409],
  'GET /replays/{id}': [200],
  'DELETE /replays/{id}': [200],
  'GET /events': [200, 422],
  'GET /events/{id}': [200],
}

test('no sequence of valid calls answers a 5xx, or anything of another account', {
  timeout: PROPERTY_TIMEOUT,
}, async () => {
  const seen = new Set<string>()
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 8, maxLength: 24 }), async (sequence) => {
      const accounts = [freshAccount(), freshAccount()] as const
      const known: Record<Kind, { id: string; owner: number }[]> = {
        endpoint: [],
        event: [],
        delivery: [],
        replay: [],
      }
      const own = (kind: Kind, owner: number) => known[kind].filter((one) => one.owner === owner).map(({ id }) => id)
      for (const owner of [0, 1] as const) {
        const body = { url: 'https://your-app.com/hooks', events: ['*'] }
        const { json } = await call(mounted, 'POST', '/', { account: accounts[owner], body })
        known.endpoint.push({ id: json.id, owner })
      }
      for (const step of sequence) {
        const account = accounts[step.account === 0 ? 0 : 1]
        if ('emit' in step) {
          known.event.push({
            id: await seedEvent(api.sql, account, step.emit, step.attempts, step.key),
            owner: step.account,
          })
          for (const endpoint of own('endpoint', step.account)) {
            for (const { id } of (await api.deliveries.list(account, endpoint)).data) {
              if (!own('delivery', step.account).includes(id)) known.delivery.push({ id, owner: step.account })
            }
          }
          continue
        }
        const target =
          step.kind === null ? undefined : known[step.kind][step.nth % Math.max(1, known[step.kind].length)]
        const path = step.path.replace('{id}', target?.id ?? 'x')
        const query = new URLSearchParams(step.query)
        const body = step.body === undefined ? {} : { body: step.body }
        const answer = await call(mounted, step.method, `${path}${query.size > 0 ? `?${query}` : ''}`, {
          account,
          ...body,
        })
        const operation = `${step.method} ${step.path}`
        if (step.kind !== null && target?.owner !== step.account && answer.status !== 422)
          expect(answer.status).toBe(404)
        else expect([operation, ALLOWED[operation]]).toEqual([operation, expect.arrayContaining([answer.status])])
        seen.add(`${operation} ${answer.status}`)
        if (operation === 'POST /') known.endpoint.push({ id: answer.json.id, owner: step.account })
        if (answer.status === 202 && operation === 'POST /{id}/replay')
          known.replay.push({ id: answer.json.id, owner: step.account })
        if (answer.status !== 200) continue
        if (operation === 'GET /events')
          for (const one of answer.json.data) expect(own('event', step.account)).toContain(one.id)
        if (operation === 'GET /{id}/deliveries') {
          for (const one of answer.json.data) expect(own('event', step.account)).toContain(one.event_id)
        }
      }
      // Replays go on, whatever happened to their endpoints.
      await dispatchAll(api.sql)
      for (const { no } of await api.sql`select no from ${api.sql(SCHEMA)}.replays where status = 'running'`) {
        await api.sql`select ${api.sql(SCHEMA)}.replay_step(${no}::int, 1000)`
      }
      await dispatchAll(api.sql)
    }),
    { ...propertyRuns(60), examples: [[EVERY_OPERATION]] },
  )
  expect(api.log).toEqual([])
  // That the sequences get somewhere: each operation has succeeded at least once.
  for (const [operation, statuses] of Object.entries(ALLOWED)) {
    // A replay is mostly over before anybody can cancel it; api-replays.slow.test.ts cancels one.
    if (operation === 'DELETE /replays/{id}') continue
    expect(seen).toContain(`${operation} ${statuses[0]}`)
  }
})
