/** The event log and the statistics of endpoints. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { QUICK, type UnderTest, underTest, uuidOf } from '../support/webhooks-under-test.ts'

let receiver: Receiver
let it: UnderTest
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())
beforeEach(async () => {
  it = await underTest(QUICK)
})
afterEach(() => it.stop())

describe('the event log', () => {
  test('shows what was emitted, with the deliveries of each, and duplicates as such', async () => {
    receiver.answer('/down', 404)
    const up = await it.endpoint(receiver.url('/up'))
    const down = await it.endpoint(receiver.url('/down'))
    await it.webhooks.start()
    const occurredAt = new Date('2024-02-03T04:05:06.789Z')
    const options = { tx: 'own', idempotencyKey: 'order-1' } as const
    const first = await it.webhooks.emit('test.happened', { n: 1 }, { ...options, occurredAt })
    await it.settled()
    const second = await it.webhooks.emit('test.happened', { n: 2 }, options)
    const other = await it.webhooks.emit(
      'affiliate.rejected',
      it.webhooks.catalog.get('affiliate.rejected').example as never,
      { tx: 'own' },
    )
    await it.settled()
    await until('all to be recorded', async () => {
      const { deliveries } = await it.webhooks.eventLog.get('default', first.id as string)
      return deliveries.every(({ status }) => status !== 'pending')
    })

    const { data, next_cursor } = await it.webhooks.eventLog.list('default')
    expect(next_cursor).toBeNull()
    expect(data.map(({ id }) => id)).toEqual([other.id, second.id, first.id])
    expect(data[0]).toMatchObject({
      event: 'affiliate.rejected',
      duplicate_of: null,
      idempotency_key: null,
      deliveries: [],
    })
    expect(data[1]).toMatchObject({ duplicate_of: first.id, idempotency_key: 'order-1', deliveries: [] })
    expect(data[2]).toMatchObject({
      event: 'test.happened',
      occurred_at: '2024-02-03T04:05:06.789Z',
      duplicate_of: null,
      idempotency_key: 'order-1',
      has_more_deliveries: false,
    })
    const found = new Map(data[2]?.deliveries.map(({ endpoint_id, status }) => [endpoint_id, status]))
    expect(found).toEqual(
      new Map([
        [up.id, 'succeeded'],
        [down.id, 'retrying'],
      ]),
    )
    expect(Math.abs(Date.parse(data[2]?.emitted_at ?? '') - Date.now())).toBeLessThan(60_000)

    const one = await it.webhooks.eventLog.get('default', first.id as string)
    expect(one).toEqual({ ...data[2], data: { n: 1 } })
    await expect(it.webhooks.eventLog.get('default', `evt_${'0'.repeat(32)}`)).rejects.toMatchObject({ status: 404 })
    const typed = await it.webhooks.eventLog.list('default', { event: 'affiliate.*' })
    expect(typed.data.map(({ id }) => id)).toEqual([other.id])
  })

  test('goes page by page, with many deliveries of one event cut off', async () => {
    for (let n = 0; n < 25; n++) await it.endpoint(receiver.url(`/many${n}`))
    await it.webhooks.start()
    const ids = (await it.emit(1, 2, 3, 4, 5)).toReversed()
    await it.settled()
    const seen: string[] = []
    let cursor: string | undefined
    do {
      const page = await it.webhooks.eventLog.list('default', { limit: 2, cursor })
      for (const event of page.data) {
        expect([event.deliveries.length, event.has_more_deliveries]).toEqual([20, true])
        expect(new Set(event.deliveries.map(({ event_id }) => event_id))).toEqual(new Set([event.id]))
      }
      seen.push(...page.data.map(({ id }) => id))
      cursor = page.next_cursor ?? undefined
    } while (cursor !== undefined)
    expect(seen).toEqual(ids)
    const one = await it.webhooks.eventLog.get('default', ids[0] as string)
    expect([one.deliveries.length, one.has_more_deliveries]).toEqual([25, false])
    const hour = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString()
    expect((await it.webhooks.eventLog.list('default', { since: hour(-1), until: hour(1) })).data).toHaveLength(5)
    expect((await it.webhooks.eventLog.list('default', { since: hour(1) })).data).toEqual([])
  })
})

describe('statistics', () => {
  test('count by status, over a window and by hour', async () => {
    receiver.answer('/stats', ({ data }) => (Number(data.n) % 4 === 0 ? 500 : 200))
    const endpoint = await it.endpoint(receiver.url('/stats'))
    const worker = it.another({ retrySchedule: ['5s'] })
    await worker.start()
    await it.emit(...Array.from({ length: 12 }, (_, n) => n))
    await it.settled()
    const early = await it.webhooks.stats.get('default', endpoint.id)
    expect(early.deliveries).toEqual({
      pending: 0,
      retrying: 3,
      held: 0,
      succeeded: 9,
      failed: 0,
      cancelled: 0,
      expired: 0,
    })
    expect(early.attempts).toEqual({ succeeded: 9, failed: 3 })
    expect(early.success_rate).toBe(0.75)
    expect(early.latency_ms.p50).toBeGreaterThan(0)
    expect(early.latency_ms.p99).toBeGreaterThanOrEqual(early.latency_ms.p50 as number)
    expect([24, 25]).toContain(early.hours.length)
    const sum = (member: 'succeeded' | 'failed') => early.hours.reduce((total, hour) => total + hour[member], 0)
    expect([sum('succeeded'), sum('failed')]).toEqual([9, 3])

    await it.webhooks.endpoints.update('default', endpoint.id, { active: false })
    expect((await it.webhooks.stats.get('default', endpoint.id)).deliveries).toMatchObject({ retrying: 0, held: 3 })
    await it.webhooks.endpoints.update('default', endpoint.id, { active: true })
    await it.moveTime(6_000)
    await until('the last attempts', async () => {
      const { deliveries } = await it.webhooks.stats.get('default', endpoint.id)
      return deliveries.failed === 3 && deliveries.retrying === 0
    })
    for (const query of [
      { since: '2025-01-01T00:00:00Z', until: '2025-03-01T00:00:00Z' },
      { since: '2025-01-01T00:00:00Z', until: '2024-03-01T00:00:00Z' },
      { since: 'x' },
    ]) {
      await expect(it.webhooks.stats.get('default', endpoint.id, query)).rejects.toMatchObject({ status: 422 })
    }
    const past = await it.webhooks.stats.get('default', endpoint.id, { until: '2025-03-01T00:00:00+02:00' })
    expect(past).toMatchObject({ success_rate: null, latency_ms: { p50: null }, attempts: { succeeded: 0, failed: 0 } })
  })

  test('are the same from the attempts and from the kept sums of busy hours', async () => {
    const endpoint = await it.endpoint(receiver.url('/kept'))
    const no = await it.numberOf(endpoint.id)
    const hour = Math.floor(Date.now() / 3_600_000)
    await it.sql`insert into posthaste.attempts (delivery_id, number, endpoint, seq, outcome, final, step, status, at, total_ms)
      select gen_random_uuid(), 1, ${no}, n, case when n % 5 = 0 then 2 else 1 end, n % 10 <> 5, case when n % 20 <> 0 then 0 end,
        case when n % 25 > 0 then 200 end, to_timestamp(${(hour - 5) * 3600}::float8 + n), n % 700 from generate_series(1, 9000) n`
    const ask = () =>
      it.webhooks.stats.get('default', endpoint.id, {
        since: new Date((hour - 4.5) * 3_600_000).toISOString(),
        until: new Date((hour - 2.75) * 3_600_000).toISOString(),
      })
    const before = await ask()
    expect(before.attempts.succeeded + before.attempts.failed).toBe(6_300)
    for (let one = hour - 6; one < hour; one++) await it.sql`select posthaste.roll_up(${one}::int, 0, 500, 100)`
    const kept = await it.sql`select hour from posthaste.attempt_hours where endpoint = ${no} order by hour`
    expect(kept.map((row) => row.hour)).toEqual([hour - 5, hour - 4, hour - 3])
    expect(await ask()).toEqual(before)
    // That they are used: with one of them changed, the answer changes.
    await it.sql`update posthaste.attempt_hours set succeeded = succeeded + 1 where hour = ${hour - 4}`
    expect((await ask()).attempts.succeeded).toBe(before.attempts.succeeded + 1)
    expect(uuidOf(endpoint.id)).toHaveLength(32)
  })
})
