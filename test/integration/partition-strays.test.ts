/** The DEFAULT partitions: the net under a host's emit, emptied again later. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Lifecycle } from '../../packages/core/src/lifecycle/events.ts'
import { silentLogger } from '../../packages/core/src/logger.ts'
import { createPartitionUpkeep } from '../../packages/core/src/queue/partition-upkeep.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { fillWeek, suffixOf, weekBefore } from '../support/old-weeks.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const DAY = 86_400_000

let host: UnderTest
let sql: Sql
const monotonicMs = 0
beforeEach(async () => {
  host = await underTest()
  sql = connect(host.database.url, 3)
})
afterEach(async () => {
  await sql.end({ timeout: 5 })
  await host.stop()
})

const upkeep = () =>
  createPartitionUpkeep({
    sql,
    schema: 'posthaste',
    clock: { now: Date.now, monotonic: () => monotonicMs },
    logger: silentLogger,
    lifecycle: new Lifecycle(silentLogger),
    retention: { eventsMs: 30 * DAY, failedMs: 30 * DAY, waitingMs: 90 * DAY },
  })

/** As after weeks in which nobody made partitions: there is only the net. */
async function dropWeeks(): Promise<void> {
  const parts = await host.sql`select c.relname name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where c.relnamespace = 'posthaste'::regnamespace and c.relname ~ '_[0-9]{8}$' and c.relkind = 'r'`
  for (const { name } of parts) await host.sql`drop table ${host.sql(`posthaste.${name as string}`)}`
}

async function strays(): Promise<number[]> {
  const [row] = await host.sql`select (select count(*)::int from only posthaste.events_default) e,
    (select count(*)::int from only posthaste.deliveries_default) d, (select count(*)::int from only posthaste.attempts_default) a`
  return [row!.e as number, row!.d as number, row!.a as number]
}

async function partitions(log: string): Promise<string[]> {
  const rows = await host.sql`select right(c.relname, 8) week from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = ${`posthaste.${log}`}::text::regclass and c.relname ~ '_[0-9]{8}$' order by 1`
  return rows.map((row) => row.week as string)
}

const guards = async () =>
  (await host.sql`select from pg_constraint where conname like 'guard%' and connamespace = 'posthaste'::regnamespace`)
    .length

test('what fell into them is moved into weeks of its own, with its transaction id, and is dispatched once', async () => {
  await dropWeeks()
  const { id } = await host.endpoint('http://127.0.0.1:9/nobody')
  await fillWeek(host.sql, weekBefore(2), {
    events: 50,
    endpoint: await host.numberOf(id),
    became: ['succeeded'],
    afterSeq: 0,
  })
  // Not dispatched yet: found by its transaction id, before and after.
  await host.sql`insert into posthaste.events (id, account, type, data)
    select posthaste.id_floor(${weekBefore(1).toISOString()}::text::timestamptz + interval '1 day'), 'default', 'test.happened', '{"n":1}'`
  const xids = () => host.sql`select id::text, xid::text from posthaste.events order by id`
  const before = await xids()
  expect(await strays()).toEqual([51, 50, 50])
  await upkeep().run()
  expect(await strays()).toEqual([0, 0, 0])
  expect((await partitions('events')).slice(0, 2)).toEqual([
    suffixOf(weekBefore(2)).slice(1),
    suffixOf(weekBefore(1)).slice(1),
  ])
  expect(await xids()).toEqual(before)
  const dispatched = async () => (await host.sql`select deliveries from posthaste.dispatch(100, 100)`)[0]?.deliveries
  expect([await dispatched(), await dispatched()]).toEqual([1, 0])
  const [left] =
    await host.sql`select count(*)::int n from pg_constraint where conname in ('bounds') and connamespace = 'posthaste'::regnamespace`
  expect(left!.n).toBe(0)
})

test('while hosts emit into them, weeks ahead are made and these emits go on; they are moved out later', async () => {
  await dropWeeks()
  await host.emit(1, 2, 3)
  await upkeep().run()
  expect(await strays()).toEqual([3, 0, 0])
  // From the first Monday that is a day away; the logs whose net is empty have this week, too.
  expect((await partitions('events')).length).toBeGreaterThanOrEqual(5)
  expect(await partitions('events')).not.toContain(suffixOf(weekBefore(0)).slice(1))
  expect(await partitions('deliveries')).toContain(suffixOf(weekBefore(0)).slice(1))
  expect(await guards()).toBe(0)
  await host.emit(4)
  expect(await strays()).toEqual([4, 0, 0])
  await upkeep().run()
  expect(await strays()).toEqual([4, 0, 0])
})

test('beside an emitter that is open, nothing is lost and no guard is left', async () => {
  await dropWeeks()
  await host.sql.begin(async (tx) => {
    await host.webhooks.emit('test.happened', { n: 1 }, { tx })
    // What only others can see is not in DEFAULT yet, so its lock is what is in the way.
    await upkeep().run()
    expect(await guards()).toBe(0)
  })
  await upkeep().run()
  expect(await strays()).toEqual([1, 0, 0])
  expect((await partitions('events')).length).toBeGreaterThanOrEqual(5)
})

test('a guard that a crash left behind is taken away before anything else', async () => {
  await dropWeeks()
  await host.emit(1)
  const from = new Date(weekBefore(-1).getTime() + 7 * DAY).toISOString()
  await host.sql`select posthaste.guard_default(${from}::text::timestamptz, ${from}::text::timestamptz + interval '7 days')`
  expect(await guards()).toBe(1)
  await upkeep().run()
  expect(await guards()).toBe(0)
  expect((await partitions('events')).length).toBeGreaterThanOrEqual(5)
})

test('a guard never refuses what is emitted today', async () => {
  await dropWeeks()
  await host.emit(1)
  await expect(
    host.sql`select posthaste.guard_default(clock_timestamp() + interval '1 hour', clock_timestamp() + interval '7 days')`,
  ).rejects.toThrow('a day ahead')
})
