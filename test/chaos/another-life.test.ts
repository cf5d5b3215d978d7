/** Workers that keep running while the database behind their connections becomes another one. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { QUICK, type UnderTest, underTest } from '../support/webhooks-under-test.ts'

let receiver: Receiver
let it: UnderTest

beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(async () => await receiver.close())
beforeEach(async () => {
  it = await underTest({ ...QUICK, retrySchedule: ['1s'] })
})
afterEach(async () => await it.stop())

const SLOW_MACHINE_MS = 30_000
const numbers = (path: string) =>
  receiver
    .requests(path)
    .map(({ data }) => data.n as number)
    .toSorted((a, b) => a - b)

const workers = async () => await it.sql`select token, fenced, life from posthaste.workers order by token`

test.each([
  ['a promoted standby', (life: string) => life.replace(/1$/, '2')],
  ['another cluster', () => '1234567890/00000001'],
])('%s: they begin anew under another token; what waits is sent, and nothing twice', async (name, change) => {
  const path = `/life/${name.replaceAll(' ', '-')}`
  receiver.answer(path, ({ data, attempt }) => (data.n === 3 && attempt === 1 ? 503 : 200))
  await it.endpoint(receiver.url(path))
  await it.webhooks.start()
  await it.emit(1, 2, 3)
  await receiver.received(path, 3, SLOW_MACHINE_MS)
  await until('the retry to wait', async () => (await it.sql`select from posthaste.retries`).length === 1)
  const [before] = await workers()
  await it.sql.unsafe(`create or replace function posthaste.life() returns text language sql stable as
    $$ select '${change(before!.life as string)}' $$`)
  await it.emit(4, 5)
  await receiver.received(path, 6, SLOW_MACHINE_MS)
  await until('another token', async () => (await workers()).length === 2)
  await it.emit(6)
  await receiver.received(path, 7, SLOW_MACHINE_MS)
  await it.settled(SLOW_MACHINE_MS)
  expect(numbers(path)).toEqual([1, 2, 3, 3, 4, 5, 6])
  const [old, anew] = await workers()
  expect(old!.fenced).toBe(true)
  expect(anew!.life).toBe(change(before!.life as string))
  expect(await it.sql`select from posthaste.lanes where token is distinct from ${anew!.token as number}`).toHaveLength(
    0,
  )
})

test('set back by a while, the cluster being the same: nothing that was committed is passed over', async () => {
  await it.endpoint(receiver.url('/back'))
  await it.webhooks.start()
  await it.emit(1, 2)
  await receiver.received('/back', 2, SLOW_MACHINE_MS)
  await it.settled()
  const [then] =
    await it.sql`select n, last_seq, clock_timestamp()::text at from posthaste.dispatches order by n desc limit 1`
  const { n, last_seq, at } = then as unknown as { n: string; last_seq: string; at: string }
  await it.emit(3, 4, 5)
  await receiver.received('/back', 5, SLOW_MACHINE_MS)
  await it.settled()
  await until('a renewal since', async () => {
    return (await it.sql`select from posthaste.renewals where at > ${at}::timestamptz`).length > 1
  })
  // What a failover to a standby that was behind loses; the events are there, as if it had lost their dispatch.
  await it.sql.begin(async (tx) => {
    await tx`lock table posthaste.workers in exclusive mode`
    await tx`delete from posthaste.dispatches where n > ${n}`
    await tx`delete from posthaste.attempts a using posthaste.deliveries d where d.id = a.delivery_id and d.seq > ${last_seq}`
    await tx`delete from posthaste.deliveries where seq > ${last_seq}`
    await tx`delete from posthaste.renewals where at > ${at}::timestamptz`
  })
  await it.emit(6)
  await receiver.received('/back', 9, SLOW_MACHINE_MS)
  await it.emit(7)
  await receiver.received('/back', 10, SLOW_MACHINE_MS)
  await it.settled(SLOW_MACHINE_MS)
  // Their records are lost, so they are sent once more; no event is missing.
  expect(numbers('/back')).toEqual([1, 2, 3, 3, 4, 4, 5, 5, 6, 7])
})

test('a subscription begins to fill it: they stop, what is under way is recorded, and they go on when it is over', async () => {
  const told: string[] = []
  it.webhooks.events.on('delivery.paused', ({ reason }) => void told.push(reason))
  it.webhooks.events.on('delivery.resumed', () => void told.push('resumed'))
  const fill = (yes: boolean) =>
    it.sql.unsafe(`create or replace function posthaste.is_replica() returns boolean language sql stable
      as $$ select ${yes} $$`)
  receiver.answer('/filled', ({ data, attempt }) => (data.n === 2 && attempt === 1 ? 'hang' : 200))
  await it.endpoint(receiver.url('/filled'))
  await it.webhooks.start()
  await it.emit(1, 2)
  await receiver.received('/filled', 2, SLOW_MACHINE_MS)
  await fill(true)
  await until('lanes to be given up', async () => {
    return (await it.sql`select from posthaste.lanes where token is null`).length > 0
  })
  receiver.release(200, '/filled')
  await until('it to be said', () => told.length > 0, SLOW_MACHINE_MS)
  expect(told).toEqual(['replica'])
  expect(it.log.join()).toContain('Logical replication still writes')
  // All that were sent are recorded, and nothing else happens here: no dispatch, no send.
  expect(await it.sql`select from posthaste.attempts`).toHaveLength(2)
  await it.emit(3)
  await until('a look at whether it may go on', async () => {
    const [row] = await it.sql`select count(*)::int n from posthaste.workers where not fenced`
    return row!.n === 0
  })
  expect(await it.sql`select from posthaste.deliveries`).toHaveLength(2)
  await fill(false)
  await receiver.received('/filled', 3, SLOW_MACHINE_MS)
  await it.settled(SLOW_MACHINE_MS)
  expect(told).toEqual(['replica', 'resumed'])
  expect(numbers('/filled').filter((n) => n !== 2)).toEqual([1, 3])
})
