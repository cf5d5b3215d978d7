/** What waits too long ends visibly, as expired, without a send. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { LifecycleEvents } from '../../packages/core/src/lifecycle/events.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type TestOptions, type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const DAY = 86_400_000

let receiver: Receiver
let host: UnderTest
let expired: Parameters<LifecycleEvents['delivery.expired']>[0][] = []
beforeEach(async () => {
  receiver = await startReceiver()
  expired = []
})
afterEach(async () => {
  await host.stop()
  await receiver.close()
})

async function start(options: TestOptions = {}): Promise<void> {
  host = await underTest({ retrySchedule: ['1h', '1h', '1h'], ...options })
  host.webhooks.events.on('delivery.expired', (event) => void expired.push(event))
  await host.webhooks.start()
}

/** As the upkeep does once an hour: what is made later has waited less. */
const mark = () =>
  host.sql`insert into posthaste.time_marks select posthaste.clock(), last_seq, pg_snapshot_xmax(snap)
    from posthaste.dispatches order by n desc limit 1`

async function statuses(id: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const { status } of (await host.webhooks.deliveries.list('default', id, { limit: 100 })).data) {
    counts[status] = (counts[status] ?? 0) + 1
  }
  return counts
}

test('what waits behind a degraded endpoint ends after 14 days; what came later goes on waiting, and is delivered', async () => {
  await start()
  let successes = 0
  receiver.answer('/down', () => (successes-- > 0 ? 200 : 503))
  const { id } = await host.endpoint(receiver.url('/down'), { max_concurrency: 1 })
  const no = await host.numberOf(id)
  const degraded = () =>
    until(
      'the endpoint to be degraded',
      async () => {
        const [row] =
          await host.sql`select backoff_until > posthaste.clock() yes from posthaste.endpoint_health where endpoint = ${no}`
        return row?.yes === true
      },
      30_000,
    )
  await host.emit(...Array.from({ length: 80 }, (_, index) => index))
  await degraded()
  await host.dispatched()
  await mark()
  // One success now and then: so it is never without one for five days, which would disable it.
  for (let turn = 0; turn < 3; turn++) {
    successes = 1
    await host.moveTime(4 * DAY)
    await until('the probe to succeed', () => successes < 0, 30_000)
    await degraded()
  }
  await host.emit(100, 101)
  await host.dispatched()
  expect((await statuses(id)).expired).toBeUndefined()
  await host.moveTime(3 * DAY)
  await until('what waited to be expired', async () => ((await statuses(id)).expired ?? 0) >= 20, 60_000)
  const [row] =
    await host.sql`select count(*)::int n, count(*) filter (where number = 1)::int unsent, bool_and(final) final
    from posthaste.attempts where endpoint = ${no} and outcome = 3`
  expect(row!.final).toBe(true)
  expect(row!.unsent).toBeGreaterThan(10)
  expect(new Set(expired.map(({ reason }) => reason))).toEqual(new Set(['degraded']))
  expect(expired.length).toBe(row!.n)

  const { data } = await host.webhooks.deliveries.list('default', id, { status: 'expired' })
  const detail = await host.webhooks.deliveries.get('default', data[0]!.id)
  expect(detail.attempts[0]).toMatchObject({ outcome: 'expired', manual: false, request: null, status_code: null })
  const stats = await host.webhooks.stats.get('default', id, { since: new Date(Date.now() + 14 * DAY).toISOString() })
  expect(stats.deliveries.expired).toBe(row!.n)

  // It works again: those that came later arrive, those that have ended do not, unless somebody asks.
  receiver.answer('/down', 200)
  await host.webhooks.endpoints.update('default', id, { active: false })
  await host.webhooks.endpoints.update('default', id, { active: true })
  const arrived = () => new Set(receiver.requests('/down').map(({ data }) => data.n as number))
  const before = receiver.requests('/down').length
  await until('the later ones to arrive', () => arrived().has(100) && arrived().has(101), 60_000)
  await host.settled(30_000)
  const sent = new Set(
    receiver
      .requests('/down')
      .slice(before)
      .map(({ deliveryId }) => deliveryId),
  )
  for (const { deliveryId } of expired) expect(sent.has(deliveryId)).toBe(false)
  await host.webhooks.deliveries.retry('default', expired[0]!.deliveryId)
  await until(
    'the one that was asked for',
    async () => (await host.webhooks.deliveries.get('default', expired[0]!.deliveryId)).status === 'succeeded',
  )
}, 180_000)

test('what is held by an endpoint ends at the declared limit, and not before', async () => {
  await start({ retention: { waiting: '40d' } })
  receiver.answer('/off', 'hang')
  const { id } = await host.endpoint(receiver.url('/off'), { max_concurrency: 1 })
  await host.emit(...Array.from({ length: 12 }, (_, index) => index))
  await receiver.received('/off', 1)
  await host.webhooks.endpoints.update('default', id, { active: false })
  await host.dispatched()
  await sleep(300)
  receiver.answer('/off', 200)
  receiver.release(404)
  await until('its attempt to be recorded', async () => (await host.sql`select from posthaste.retries`).length > 0)
  await until(
    'the rest to be held',
    async () => (await host.sql`select from posthaste.backlogs where reason = 'held'`).length === 1,
  )
  await mark()
  const { createHeldExpiry } = await import('../../packages/core/src/queue/held-expiry.ts')
  const { createDeliveryExpirer } = await import('../../packages/core/src/delivery/delivery-expirer.ts')
  const { Lifecycle } = await import('../../packages/core/src/lifecycle/events.ts')
  const { silentLogger } = await import('../../packages/core/src/logger.ts')
  const { connect } = await import('../../packages/core/src/storage/connection.ts')
  const sql = connect(host.database.url, 1)
  const run = async () => {
    const expirer = createDeliveryExpirer({
      sql,
      schema: 'posthaste',
      lifecycle: new Lifecycle(silentLogger),
      waitingMs: 40 * DAY,
    })
    await createHeldExpiry(sql, 'posthaste', { now: Date.now, monotonic: () => 0 }, expirer).run()
  }
  try {
    await host.moveTime(39 * DAY)
    await run()
    expect(await statuses(id)).toEqual({ held: 12 })
    await host.moveTime(2 * DAY)
    await run()
    expect(await statuses(id)).toEqual({ expired: 12 })
    expect(await host.sql`select from posthaste.retries`).toHaveLength(0)
    // Switched on again, nothing of it is sent.
    const before = receiver.requests('/off').length
    await host.webhooks.endpoints.update('default', id, { active: true })
    await host.emit(50)
    await until('what comes now', () => receiver.requests('/off').some(({ data }) => data.n === 50), 60_000)
    expect(receiver.requests('/off')).toHaveLength(before + 1)
  } finally {
    await sql.end({ timeout: 5 })
  }
}, 180_000)
