/** The delivery log, retries, tests, replays, statistics and the event log, over every adapter. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Adapter, adapters, type Mounted } from './adapters.ts'
import { call } from './client.ts'
import { dispatchAll, seedEvent } from './delivery-log.ts'
import { freshAccount, SCHEMA, startTestApi, type TestApi } from './management-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(() => api.stop())

const NOWHERE = '0'.repeat(32)
const FAILED = { succeeded: false, final: true }
const SUCCEEDED = { succeeded: true, final: true }
const LONG_AGO = '2020-01-01T00:00:00Z'

async function commandsOf(kind: string): Promise<{ payload: string }[]> {
  const rows = await api.sql`select payload from ${api.sql(SCHEMA)}.commands where kind = ${kind} order by id`
  return rows.map(({ payload }) => ({ payload: String(payload) }))
}

describe.each(adapters)('$name', (adapter: Adapter) => {
  let mounted: Mounted
  beforeAll(async () => {
    mounted = await adapter.mount(api, { prefix: '/api/hooks' })
  })
  afterAll(() => mounted.close())

  async function createEndpoint(account: string, url = 'https://your-app.com/hooks'): Promise<string> {
    const { json } = await call(mounted, 'POST', '/', { account, body: { url, events: ['commission.*', 'link.*'] } })
    return json.id
  }

  test('deliveries are listed, filtered and read with their attempts', async () => {
    const account = freshAccount()
    const id = await createEndpoint(account)
    const failed = await seedEvent(api.sql, account, 'commission.approved', [FAILED])
    const received = await seedEvent(api.sql, account, 'commission.created', [SUCCEEDED])
    const waiting = await seedEvent(api.sql, account, 'commission.approved')
    const list = async (query: string) => {
      const answer = await call(mounted, 'GET', `/${id}/deliveries${query}`, { account })
      expect(answer.status).toBe(200)
      return answer.json
    }
    const all = await list('')
    expect(all.data.map((one) => [one.event_id, one.status])).toEqual([
      [waiting, 'pending'],
      [received, 'succeeded'],
      [failed, 'failed'],
    ])
    const first = await list('?limit=2')
    expect(first.data).toEqual(all.data.slice(0, 2))
    expect((await list(`?limit=2&cursor=${first.next_cursor}`)).data).toEqual(all.data.slice(2))
    expect((await list('/?status=failed')).data).toEqual(all.data.slice(2))
    expect((await list('?status=pending')).data).toEqual(all.data.slice(0, 1))
    expect((await list('?event=commission.created')).data).toEqual(all.data.slice(1, 2))
    expect((await list(`?since=${LONG_AGO}&until=2020-01-02T00:00:00Z`)).data).toEqual([])
    for (const query of ['status=done', 'limit=0', 'since=now', 'event=A%20B', 'cursor=x']) {
      const refused = await call(mounted, 'GET', `/${id}/deliveries?${query}`, { account })
      expect([query, refused.status, refused.json.errors[0]?.path]).toEqual([query, 422, query.split('=')[0]])
    }

    const one = await call(mounted, 'GET', `/deliveries/${all.data[2]?.id}/`, { account })
    expect(one.status).toBe(200)
    expect(one.json).toEqual({
      ...all.data[2],
      attempts: [
        {
          number: 1,
          manual: false,
          at: expect.any(String),
          outcome: 'failed',
          status_code: 503,
          error_code: 'HTTP_503',
          error_message: null,
          timings: { dns: 1.5, connect: 2, tls: 3.25, first_byte: 4, total: 11 },
          request: {
            headers: expect.objectContaining({
              'X-Webhook-Id': failed,
              'X-Webhook-Attempt': '1',
              'webhook-id': failed,
            }),
            body: expect.stringMatching(
              /^\{"event":"commission.approved","timestamp":\d+,"data":\{"n":85.5\},"signature":"sha256=(ab){32}"\}$/,
            ),
          },
          response: { headers: { server: 'test' }, excerpt: 'busy' },
        },
      ],
    })
    await call(mounted, 'DELETE', `/${id}`, { account })
    expect((await list('')).data.map(({ status }) => status)).toEqual(['cancelled', 'succeeded', 'failed'])
  })

  test('a retry is accepted with 202 and asked of the workers, once per key', async () => {
    const account = freshAccount()
    const id = await createEndpoint(account)
    await seedEvent(api.sql, account, 'commission.approved', [FAILED])
    const { json } = await call(mounted, 'GET', `/${id}/deliveries`, { account })
    const delivery = json.data[0]
    const before = (await commandsOf('retry')).length
    const headers = { 'idempotency-key': `retry-${delivery?.id}` }
    for (const replayed of [null, 'true']) {
      const accepted = await call(mounted, 'POST', `/deliveries/${delivery?.id}/retry`, { account, headers })
      expect([accepted.status, accepted.json]).toEqual([202, delivery])
      expect(accepted.headers.get('idempotency-replayed')).toBe(replayed)
    }
    const commands = await commandsOf('retry')
    expect(commands).toHaveLength(before + 1)
    expect(JSON.parse(commands.at(-1)?.payload ?? '')).toMatchObject({ attempts: 1 })

    await call(mounted, 'PATCH', `/${id}`, { account, body: { active: false } })
    const refused = await call(mounted, 'POST', `/deliveries/${delivery?.id}/retry`, { account })
    expect([refused.status, refused.json.code]).toEqual([409, 'ENDPOINT_NOT_ACTIVE'])
  })

  test('a test answers what became of it, with and without a body', async () => {
    const account = freshAccount()
    const id = await createEndpoint(account)
    const answered = await call(mounted, 'POST', `/${id}/test`, { account })
    expect([answered.status, answered.json]).toMatchObject([
      200,
      {
        event: 'commission.created',
        outcome: 'succeeded',
        status_code: 200,
        error_code: null,
        response: { excerpt: 'thanks' },
      },
    ])
    const down = await createEndpoint(account, 'https://your-app.com/down')
    const named = await call(mounted, 'POST', `/${down}/test`, { account, body: { event: 'payout.processed' } })
    expect([named.status, named.json]).toMatchObject([
      200,
      { event: 'payout.processed', outcome: 'failed', status_code: 503, error_code: 'HTTP_503' },
    ])
    expect(api.sent.at(-1)?.url).toBe('https://your-app.com/down')
    const unknown = await call(mounted, 'POST', `/${id}/test`, { account, body: { event: 'no.such' } })
    expect([unknown.status, unknown.json.code]).toEqual([422, 'UNKNOWN_EVENT_TYPE'])
    expect(unknown.json.errors).toEqual([{ path: 'event', message: expect.stringContaining('commission.approved') }])
    const further = await call(mounted, 'POST', `/${id}/test`, { account, body: { type: 'x' } })
    expect([further.status, further.json.code]).toEqual([422, 'VALIDATION_FAILED'])
  })

  test('a replay begins, is read and cancelled', async () => {
    const account = freshAccount()
    const id = await createEndpoint(account)
    const body = { since: LONG_AGO, which: 'missing' }
    const headers = { 'idempotency-key': `replay-${id}` }
    const begun = await call(mounted, 'POST', `/${id}/replay`, { account, body, headers })
    expect([begun.status, begun.json]).toMatchObject([
      202,
      {
        endpoint_id: id,
        status: 'running',
        total: null,
        done: 0,
        types_not_always_stored: ['link.clicked'],
        since: '2020-01-01T00:00:00.000Z',
      },
    ])
    expect(begun.headers.get('location')).toBe(`/api/hooks/replays/${begun.json.id}`)
    const repeated = await call(mounted, 'POST', `/${id}/replay`, { account, body, headers })
    expect([repeated.status, repeated.json]).toEqual([202, begun.json])
    const second = await call(mounted, 'POST', `/${id}/replay`, { account, body })
    expect([second.status, second.json.code]).toEqual([409, 'REPLAY_RUNNING'])
    const read = await call(mounted, 'GET', `/replays/${begun.json.id}`, { account })
    expect([read.status, read.json]).toEqual([200, begun.json])
    const cancelled = await call(mounted, 'DELETE', `/replays/${begun.json.id}`, { account })
    expect([cancelled.status, cancelled.json.status]).toEqual([200, 'cancelled'])
    for (const wrong of [{}, { since: LONG_AGO }, { ...body, since: '9999-01-01T00:00:00Z' }, { ...body, to: 'x' }]) {
      const refused = await call(mounted, 'POST', `/${id}/replay`, { account, body: wrong })
      expect([refused.status, refused.json.code]).toEqual([422, 'VALIDATION_FAILED'])
    }
    await call(mounted, 'PATCH', `/${id}`, { account, body: { active: false } })
    const refused = await call(mounted, 'POST', `/${id}/replay`, { account, body })
    expect([refused.status, refused.json.code]).toEqual([409, 'ENDPOINT_NOT_ACTIVE'])
  })

  test('statistics and the event log', async () => {
    const account = freshAccount()
    const id = await createEndpoint(account)
    const first = await seedEvent(api.sql, account, 'commission.approved', [FAILED], 'key')
    const second = await seedEvent(api.sql, account, 'commission.created', [SUCCEEDED])
    const third = await seedEvent(api.sql, account, 'commission.approved', [], 'key')
    const stats = await call(mounted, 'GET', `/${id}/stats`, { account })
    expect([stats.status, stats.json]).toMatchObject([
      200,
      {
        endpoint_id: id,
        success_rate: 0.5,
        deliveries: { succeeded: 1, failed: 1, pending: 0 },
        attempts: { failed: 1 },
      },
    ])
    const long = await call(mounted, 'GET', `/${id}/stats?since=${LONG_AGO}`, { account })
    expect([long.status, long.json.errors[0]?.path]).toEqual([422, 'since'])

    const events = await call(mounted, 'GET', '/events', { account })
    expect([events.status, events.json.data]).toMatchObject([
      200,
      [
        { id: third, duplicate_of: first, deliveries: [] },
        { id: second, deliveries: [{ endpoint_id: id, status: 'succeeded' }] },
        { id: first, idempotency_key: 'key', deliveries: [{ endpoint_id: id, status: 'failed' }] },
      ],
    ])
    const page = await call(mounted, 'GET', '/events/?limit=1&event=commission.approved', { account })
    expect(page.json.data.map((one) => one.id)).toEqual([third])
    const rest = await call(mounted, 'GET', `/events?event=commission.approved&cursor=${page.json.next_cursor}`, {
      account,
    })
    expect(rest.json.data.map((one) => one.id)).toEqual([first])
    const one = await call(mounted, 'GET', `/events/${second}`, { account })
    expect([one.status, one.json]).toEqual([200, { ...events.json.data[1], data: { n: 85.5 } }])
  })

  test('what does not exist, and what is of another account, is 404', async () => {
    const [owner, stranger] = [freshAccount(), freshAccount()]
    const id = await createEndpoint(owner)
    const event = await seedEvent(api.sql, owner, 'commission.approved', [FAILED])
    const { json } = await call(mounted, 'GET', `/${id}/deliveries`, { account: owner })
    const body = { since: LONG_AGO, which: 'all' }
    const replay = await call(mounted, 'POST', `/${id}/replay`, { account: owner, body })
    const commands = await api.sql`select count(*)::int n from ${api.sql(SCHEMA)}.commands`
    for (const [ids, account] of [
      [{ endpoint: id, event, delivery: json.data[0]?.id, replay: replay.json.id }, stranger],
      [
        { endpoint: `ep_${NOWHERE}`, event: `evt_${NOWHERE}`, delivery: `dlv_${NOWHERE}`, replay: `rpl_${NOWHERE}` },
        owner,
      ],
      [{ endpoint: 'x', event: id, delivery: event, replay: json.data[0]?.id }, owner],
    ] as const) {
      for (const [method, path, sent] of [
        ['GET', `/${ids.endpoint}/deliveries`],
        ['GET', `/${ids.endpoint}/stats`],
        ['POST', `/${ids.endpoint}/test`, {}],
        ['POST', `/${ids.endpoint}/replay`, body],
        ['GET', `/deliveries/${ids.delivery}`],
        ['POST', `/deliveries/${ids.delivery}/retry`],
        ['GET', `/events/${ids.event}`],
        ['GET', `/replays/${ids.replay}`],
        ['DELETE', `/replays/${ids.replay}`],
      ] as const) {
        const answer = await call(mounted, method, path, { account, ...(sent === undefined ? {} : { body: sent }) })
        expect([method, path, answer.status, answer.json.code]).toEqual([method, path, 404, 'NOT_FOUND'])
      }
    }
    expect(await api.sql`select count(*)::int n from ${api.sql(SCHEMA)}.commands`).toEqual(commands)
    expect((await call(mounted, 'GET', '/events', { account: stranger })).json.data).toEqual([])
    expect((await call(mounted, 'GET', `/replays/${replay.json.id}`, { account: owner })).json.status).toBe('running')
    await dispatchAll(api.sql)
  })
})
