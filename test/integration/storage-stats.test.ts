/** `stats.storage()`: what the operator is told, by a role that is nobody special. */
import { createWebhooks } from '@posthaste/core'
import postgres from 'postgres'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fillWeek, weekBefore } from '../support/old-weeks.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest, withTestOptions } from '../support/webhooks-under-test.ts'

let host: UnderTest
let role: string
let ordinary: ReturnType<typeof createWebhooks>
beforeAll(async () => {
  host = await underTest()
  role = `reader_${host.database.name.slice(-8)}`
  await host.sql.unsafe(`create role ${role} login password 'r'; grant usage on schema posthaste to ${role};
    grant select on all tables in schema posthaste to ${role}`)
  const url = new URL(host.database.url)
  url.username = role
  url.password = 'r'
  ordinary = createWebhooks(withTestOptions(url.href)) as never
})
afterAll(async () => {
  await ordinary.stop()
  await host.sql.unsafe(`drop owned by ${role}; drop role ${role}`)
  await host.stop()
})

test('sizes, partitions, and nothing late where nothing is', async () => {
  const stats = await ordinary.stats.storage()
  expect(stats.tables.find(({ name }) => name === 'events')).toMatchObject({ partitions: expect.any(Number), rows: 0 })
  expect(stats.tables.find(({ name }) => name === 'events')!.partitions).toBeGreaterThanOrEqual(6)
  expect(stats.totalBytes).toBe(stats.tables.reduce((sum, one) => sum + one.tableBytes + one.indexBytes, 0))
  expect(stats.totalBytes).toBeGreaterThan(100_000)
  expect(stats.oldestPartition).toBe(weekBefore(0).toISOString())
  expect(Date.parse(stats.partitionsUntil!)).toBeGreaterThan(Date.now() + 36 * 86_400_000)
  expect(stats).toMatchObject({ leavingWeeks: [], strays: false, oldestUndispatched: null, oldestDue: null })
})

test('the oldest event that is not dispatched, and the oldest delivery that is due', async () => {
  await host.endpoint('http://127.0.0.1:9/nobody')
  await host.sql`select posthaste.dispatch(1000, 1000)`
  const before = Date.now()
  await host.emit(1)
  await host.emit(2)
  const { oldestUndispatched } = await ordinary.stats.storage()
  const [first] = await host.sql`select posthaste.id_time(min(id::text)::uuid) at from posthaste.events`
  expect(Date.parse(oldestUndispatched!)).toBe((first!.at as Date).getTime())
  expect(Math.abs(Date.parse(oldestUndispatched!) - before)).toBeLessThan(60_000)
  // No worker: its lane has not got to it.
  await host.sql`select posthaste.dispatch(1000, 1000)`
  const after = await ordinary.stats.storage()
  expect(after.oldestUndispatched).toBeNull()
  expect(Date.parse(after.oldestDue!)).toBeGreaterThanOrEqual(before - 1_000)
})

test('one that commits late, and one in the middle of a window, count as not dispatched', async () => {
  const late = postgres(host.database.url, { max: 1 })
  const go = Promise.withResolvers<void>()
  const open = late.begin(async (tx) => {
    await host.webhooks.emit('test.happened', { n: 1 }, { tx })
    await go.promise
  })
  await until(
    'it to be open',
    async () =>
      (await host.sql`select from pg_stat_activity where backend_xid is not null and datname = current_database()`)
        .length > 0,
  )
  await host.emit(2)
  await host.sql`select posthaste.dispatch(1000, 1000)`
  expect((await ordinary.stats.storage()).oldestUndispatched).toBeNull()
  go.resolve()
  await open
  expect((await ordinary.stats.storage()).oldestUndispatched).not.toBeNull()
  await host.sql`select posthaste.dispatch(1000, 1000)`
  await host.emit(3, 4, 5)
  await host.sql`select posthaste.dispatch(2, 1000)`
  expect((await ordinary.stats.storage()).oldestUndispatched).not.toBeNull()
  await host.sql`select posthaste.dispatch(2, 1000)`
  await host.sql`select posthaste.dispatch(2, 1000)`
  expect((await ordinary.stats.storage()).oldestUndispatched).toBeNull()
  await late.end()
})

test('what waits for its turn counts as not dispatched', async () => {
  await host.emit(...Array.from({ length: 40 }, (_, n) => n))
  const [first] = await host.sql`select posthaste.id_time(min(e.id::text)::uuid) at from posthaste.events e, (
    select snap from posthaste.dispatches order by n desc limit 1) d where not pg_visible_in_snapshot(e.xid, d.snap)`
  let position: Record<string, unknown>
  do {
    await host.sql`select posthaste.dispatch(4, 1000)`
    position = (await host.sql`select win, turns_open from posthaste.dispatches order by n desc limit 1`)[0]!
  } while (position.win !== null)
  expect(position.turns_open).toBeGreaterThan(0)
  const { oldestUndispatched } = await ordinary.stats.storage()
  expect(Date.parse(oldestUndispatched!)).toBeGreaterThanOrEqual((first!.at as Date).getTime())
  for (let more = true; more; )
    more = (await host.sql`select more from posthaste.dispatch(4, 1000)`)[0]!.more as boolean
  expect((await ordinary.stats.storage()).oldestUndispatched).toBeNull()
})

test('who holds vacuum back: a session, a prepared transaction', async () => {
  const holder = postgres(host.database.url, { max: 1, connection: { application_name: 'two hour report' } })
  const reserved = await holder.reserve()
  await reserved`begin isolation level repeatable read`
  const [pid] = await reserved`select pg_backend_pid() pid from posthaste.events limit 1`.then((rows) =>
    rows.length > 0 ? rows : reserved`select pg_backend_pid() pid`,
  )
  // The marks say what the views do not tell an ordinary role.
  await host.sql`insert into posthaste.time_marks select now() - interval '3 hours', 0, '3'::xid8 on conflict do nothing`
  await host.emit(1)
  const { vacuumHolders } = await ordinary.stats.storage()
  const found = vacuumHolders.find(({ holder: id }) => id === String(pid!.pid))
  expect(found).toMatchObject({ kind: 'session', ageInTransactions: expect.any(Number) })
  expect(found!.since).not.toBeNull()
  await reserved`rollback`

  await reserved`begin`
  await reserved`select pg_current_xact_id()`
  const gid = `report-${host.database.name}`
  await reserved.unsafe(`prepare transaction '${gid}'`)
  expect((await ordinary.stats.storage()).vacuumHolders).toContainEqual(
    expect.objectContaining({ kind: 'prepared transaction', holder: gid }),
  )
  await reserved.unsafe(`rollback prepared '${gid}'`)
  expect(
    (await ordinary.stats.storage()).vacuumHolders.filter(({ kind }) => kind === 'prepared transaction'),
  ).not.toContainEqual(expect.objectContaining({ holder: gid }))
  reserved.release()
  await holder.end()
})

test('rows in a DEFAULT partition are said', async () => {
  await fillWeek(host.sql, weekBefore(20), { events: 1, endpoint: null, became: [], afterSeq: 0 })
  expect((await ordinary.stats.storage()).strays).toBe(true)
})
