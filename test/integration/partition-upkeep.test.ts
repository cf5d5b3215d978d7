/** Weeks of the logs: removed when their time is over, never what is needed, never at the expense of a host's transaction. */
import { readFileSync } from 'node:fs'
import { createWebhooks } from '@posthaste/core'
import postgres from 'postgres'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Lifecycle } from '../../packages/core/src/lifecycle/events.ts'
import { silentLogger } from '../../packages/core/src/logger.ts'
import {
  createPartitionUpkeep,
  type PartitionUpkeep,
  type Retention,
} from '../../packages/core/src/queue/partition-upkeep.ts'
import { connect, type Sql } from '../../packages/core/src/storage/connection.ts'
import { makeOldWeek, suffixOf, weekBefore } from '../support/old-weeks.ts'
import { type UnderTest, underTest, uuidOf, withTestOptions } from '../support/webhooks-under-test.ts'

const DAY = 86_400_000
const RETENTION: Retention = { eventsMs: 30 * DAY, failedMs: 30 * DAY, waitingMs: 90 * DAY }

let host: UnderTest
let sql: Sql
let endpoint: number
let endpointId: string
let seq = 0
beforeAll(async () => {
  host = await underTest()
  sql = connect(host.database.url, 4)
  endpointId = (await host.endpoint('http://127.0.0.1:9/nobody')).id
  endpoint = await host.numberOf(endpointId)
})
afterAll(async () => {
  await sql.end({ timeout: 5 })
  await host.stop()
})
beforeEach(async () => {
  await host.sql`update posthaste.endpoints set deleted_at = null`
  await host.sql`delete from posthaste.retries`
  for (const week of await oldWeeks()) {
    for (const log of ['events', 'deliveries', 'attempts'])
      await host.sql.unsafe(`drop table if exists posthaste.${log}_${week}`)
  }
})

function upkeep(retention: Partial<Retention> = {}, lifecycle = new Lifecycle(silentLogger)): PartitionUpkeep {
  const clock = { now: Date.now, monotonic: () => performance.now() }
  return createPartitionUpkeep({
    sql,
    schema: 'posthaste',
    clock,
    logger: silentLogger,
    lifecycle,
    retention: { ...RETENTION, ...retention },
  })
}

/** Suffixes of weeks that have any partition and lie before this one. */
async function oldWeeks(): Promise<string[]> {
  const rows =
    await host.sql`select distinct right(c.relname, 8) week from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where c.relnamespace = 'posthaste'::regnamespace and c.relname ~ '_[0-9]{8}$' and c.relkind = 'r' order by 1`
  const now = suffixOf(weekBefore(0)).slice(1)
  return rows.map((row) => row.week as string).filter((week) => week < now)
}

async function rowsOf(log: 'events' | 'deliveries' | 'attempts', week: Date): Promise<number> {
  const [row] = await host.sql.unsafe(`select count(*)::int n from posthaste.${log}${suffixOf(week)}`)
  return row!.n as number
}

async function fill(
  week: Date,
  events: number,
  became: readonly ('succeeded' | 'failed' | 'waiting')[],
): Promise<void> {
  await makeOldWeek(host.sql, week, { events, endpoint, became, afterSeq: seq })
  seq += events
}

async function stateOf(week: Date): Promise<string | undefined> {
  const [row] =
    await host.sql`select state from posthaste.leaving_weeks where week = ${week.toISOString()}::text::timestamptz`
  return row?.state as string | undefined
}

describe('a week past its time', () => {
  test('a secret that was replaced is kept as long as anything in the log was signed before', async () => {
    const week = weekBefore(3)
    await fill(week, 3, ['succeeded'])
    const retire = (
      number: number,
      at: number,
    ) => host.sql`insert into posthaste.retired_secrets (endpoint, number, sealed, retired_at)
      values (${endpoint}, ${number}, 'sealed', ${new Date(at).toISOString()}::text::timestamptz)`
    const retired = async () =>
      (await host.sql`select number from posthaste.retired_secrets order by number`).map(({ number }) => number)
    // Before anything that is there, among it, and just now.
    await retire(1, week.getTime() - 2 * DAY)
    await retire(2, week.getTime() + DAY)
    await retire(3, Date.now())
    await upkeep().run()
    expect(await retired()).toEqual([2, 3])
    await upkeep({ eventsMs: 7 * DAY, failedMs: 7 * DAY }).run()
    expect(await oldWeeks()).toEqual([])
    expect(await retired()).toEqual([3])
    await host.sql`delete from posthaste.retired_secrets`
  })

  test('goes with its events, deliveries and attempts; a younger one stays', async () => {
    await fill(weekBefore(6), 100, ['succeeded'])
    await fill(weekBefore(3), 100, ['succeeded'])
    expect(await upkeep().run()).toBe(false)
    expect(await oldWeeks()).toEqual([suffixOf(weekBefore(3)).slice(1)])
    expect(await rowsOf('attempts', weekBefore(3))).toBe(100)
    expect(await stateOf(weekBefore(6))).toBeUndefined()
  })

  test('leaves behind what has not ended, with its events and attempts, where everything finds it', async () => {
    const week = weekBefore(6)
    await fill(week, 100, [...Array.from({ length: 9 }, () => 'succeeded' as const), 'waiting'])
    const [retried] =
      await host.sql`select id::text, event_id::text, seq from posthaste.deliveries where seq = ${seq - 99}`
    await host.sql`update posthaste.attempts set outcome = 2, final = false where delivery_id = ${retried!.id}`
    await host.sql`insert into posthaste.retries (delivery_id, step, endpoint, lane, seq, event_id, number, due_at)
      values (${retried!.id}, 1, ${endpoint}, 1, ${retried!.seq}, ${retried!.event_id}, 2, now() + interval '1 hour')`
    expect(await upkeep().run()).toBe(false)
    expect(await stateOf(week)).toBe('kept')
    expect([await rowsOf('events', week), await rowsOf('deliveries', week), await rowsOf('attempts', week)]).toEqual([
      11, 11, 1,
    ])
    const found = await host.webhooks.deliveries.get('default', `dlv_${(retried!.id as string).replaceAll('-', '')}`)
    expect([found.status, found.attempts.length]).toEqual(['retrying', 1])
    const { data } = await host.webhooks.deliveries.list('default', endpointId, { status: 'retrying' })
    expect(data.map(({ id }) => uuidOf(id))).toEqual([(retried!.id as string).replaceAll('-', '')])

    // When they have ended, too, the rest goes.
    await host.sql`delete from posthaste.retries`
    await host.sql`insert into posthaste.attempts (delivery_id, number, endpoint, seq, outcome, final, at)
      select id, 2, endpoint, seq, 1, true, now() from posthaste.deliveries where id >= posthaste.id_floor(${week.toISOString()}::text::timestamptz)
        and id < posthaste.id_floor(${weekBefore(5).toISOString()}::text::timestamptz)`
    await upkeep().run()
    expect(await oldWeeks()).toEqual([])
  })

  test('stays as it is where more than a quarter of it is still needed', async () => {
    const week = weekBefore(6)
    await fill(week, 100, ['succeeded', 'succeeded', 'waiting'])
    expect(await upkeep().run()).toBe(false)
    expect(await stateOf(week)).toBe('kept')
    expect([await rowsOf('events', week), await rowsOf('deliveries', week)]).toEqual([100, 100])
    const { leavingWeeks } = await host.webhooks.stats.storage()
    expect(leavingWeeks).toMatchObject([{ week: week.toISOString(), state: 'kept', deliveriesKept: 33 }])
    await host.sql`update posthaste.endpoints set deleted_at = now()`
    await upkeep().run()
    await host.sql`update posthaste.endpoints set deleted_at = null`
    expect(await oldWeeks()).toEqual([])
  })

  test('keeps what failed for as long as the host wants, and not what waited for a deleted endpoint', async () => {
    const week = weekBefore(6)
    await fill(week, 100, [
      'succeeded',
      'succeeded',
      'succeeded',
      'succeeded',
      'succeeded',
      'succeeded',
      'succeeded',
      'succeeded',
      'failed',
      'waiting',
    ])
    await host.sql`update posthaste.endpoints set deleted_at = now()`
    await upkeep({ failedMs: 60 * DAY }).run()
    expect([await rowsOf('events', week), await rowsOf('deliveries', week), await rowsOf('attempts', week)]).toEqual([
      10, 10, 10,
    ])
    await upkeep().run()
    expect(await oldWeeks()).toEqual([])
  })

  test('stays while an event of it is not dispatched, or a replay needs it; the replay no longer than the limit', async () => {
    const week = weekBefore(6)
    await fill(week, 10, ['succeeded'])
    await host.sql`insert into posthaste.events (id, account, type, data)
      values (posthaste.id_floor(${week.toISOString()}::text::timestamptz + interval '3 days'), 'default', 'test.happened', '{"n":0}')`
    expect(await upkeep().run()).toBe(true)
    expect(await stateOf(week)).toBe('undispatched')
    await host.sql`delete from posthaste.subscriptions`
    await host.sql`select posthaste.dispatch(100, 100)`

    await host.sql`insert into posthaste.replays (account, endpoint, which, since, until, through)
      values ('default', ${endpoint}, 'all', ${week.toISOString()}::text::timestamptz, now(), posthaste.id_floor(${week.toISOString()}::text::timestamptz))`
    expect(await upkeep().run()).toBe(true)
    expect(await stateOf(week)).toBe('replay')
    expect(await rowsOf('events', week)).toBe(11)
    await upkeep({ waitingMs: 31 * DAY }).run()
    expect(await oldWeeks()).toEqual([])
    await host.sql`delete from posthaste.replays`
  })

  test.each([
    { what: 'waits for its turn at the dispatcher', events: 40, aside: false },
    { what: 'is in the rest of a large transaction that was laid aside', events: 100, aside: true },
  ])('stays while an event of it $what', async ({ events, aside }) => {
    const week = weekBefore(6)
    await fill(week, 10, ['succeeded'])
    await host.sql`insert into posthaste.events (id, account, type, data)
      select posthaste.id_floor(${week.toISOString()}::text::timestamptz + interval '3 days' + i * interval '1 second'), 'default', 'test.happened', '{"n":0}'
      from generate_series(1, ${events}::int) i`
    let position: Record<string, unknown>
    do {
      await host.sql`select posthaste.dispatch(4, 1000)`
      position = (
        await host.sql`select win, turns_open, aside_ids from posthaste.dispatches order by n desc limit 1`
      )[0]!
    } while (position.win !== null || (position.aside_ids !== null) !== aside)
    expect(position.turns_open).toBeGreaterThan(0)
    // What waits for its turn would be reason enough.
    if (aside) await host.sql`update posthaste.turns set oldest = 'ffffffff-ffff-ffff-ffff-ffffffffffff'`
    await host.sql`delete from posthaste.deliveries where event_id in (select id from posthaste.events where data = '{"n":0}')`
    await host.sql`delete from posthaste.subscriptions`
    expect(await upkeep().run()).toBe(true)
    expect(await stateOf(week)).toBe('undispatched')
    for (let more = true; more; )
      more = (await host.sql`select more from posthaste.dispatch(4, 1000)`)[0]!.more as boolean
    await upkeep().run()
    expect(await oldWeeks()).toEqual([])
  })

  test('of which only a part was dropped goes on going; of which a part is in DEFAULT waits for it', async () => {
    const week = weekBefore(6)
    await fill(week, 10, ['succeeded'])
    await host.sql.unsafe(`truncate posthaste.attempts${suffixOf(week)}, posthaste.deliveries${suffixOf(week)}, posthaste.events${suffixOf(week)};
      drop table posthaste.attempts${suffixOf(week)}`)
    // An attempt that was under way then is recorded now.
    await host.sql`insert into posthaste.deliveries (id, seq, event_id, endpoint)
      select id, 1, id, 1 from posthaste.id_floor(${week.toISOString()}::text::timestamptz) id`
    await upkeep().run()
    expect(await oldWeeks()).toEqual([])

    await fill(week, 10, ['succeeded'])
    await host.sql.unsafe(`alter table posthaste.events detach partition posthaste.events${suffixOf(week)};
      insert into posthaste.events select * from posthaste.events${suffixOf(week)}; drop table posthaste.events${suffixOf(week)}`)
    const [row] =
      await host.sql`select state from posthaste.trim_week(${week.toISOString()}::text::timestamptz, '30 days', '30 days', '90 days')`
    expect([row!.state, await rowsOf('deliveries', week)]).toEqual(['strays', 10])
    await upkeep().run()
    expect(await oldWeeks()).toEqual([])
  })

  test('that is overdue is said, once an hour', async () => {
    const week = weekBefore(8)
    await fill(week, 10, ['succeeded'])
    const [open] = [postgres(host.database.url, { max: 1 })]
    const lifecycle = new Lifecycle(silentLogger)
    const said: unknown[] = []
    lifecycle.on('storage.overdue', (event) => void said.push([event.week, event.reason, event.overdueMs > DAY]))
    await open!.begin(async (tx) => {
      await tx.unsafe(`select from posthaste.attempts${suffixOf(week)}`)
      const one = upkeep({}, lifecycle)
      expect(await one.run()).toBe(true)
      expect(await one.run()).toBe(true)
    })
    expect(said).toEqual([[week.toISOString(), 'locked', true]])
    await open!.end()
  })
})

describe('a role that does not own the tables', () => {
  test('does the upkeep by functions of the owner, once it is allowed to', async () => {
    const week = weekBefore(6)
    await fill(week, 10, ['succeeded'])
    const role = `worker_${host.database.name.slice(-8)}`
    // As docs/operations.md has them; the last is the one for the functions.
    const [, block] = /```sql\n(grant[^`]+)```/.exec(readFileSync('docs/operations.md', 'utf8')) ?? []
    const grants = (block ?? '').replaceAll('to worker', `to ${role}`).trim().split('\n')
    expect(grants).toHaveLength(4)
    await host.sql.unsafe(`create role ${role} login password 'w' noinherit; ${grants.slice(0, 3).join('\n')}`)
    const url = new URL(host.database.url)
    url.username = role
    url.password = 'w'
    const own = connect(url.href, 2)
    const clock = { now: Date.now, monotonic: () => performance.now() }
    const options = {
      sql: own,
      schema: 'posthaste',
      clock,
      logger: silentLogger,
      lifecycle: new Lifecycle(silentLogger),
      retention: RETENTION,
    }
    try {
      await expect(createPartitionUpkeep(options).run()).rejects.toMatchObject({ code: '42501' })
      expect(await oldWeeks()).toHaveLength(1)
      await host.sql.unsafe(grants[3]!)
      expect(await createPartitionUpkeep(options).run()).toBe(false)
      expect(await oldWeeks()).toEqual([])
    } finally {
      await own.end({ timeout: 5 })
      await host.sql.unsafe(`drop owned by ${role}; drop role ${role}`)
    }
  })
})

describe('retention', () => {
  test.each([
    [{ events: '12h' }, 'retention.events'],
    [{ failed: '400d' }, 'retention.failed'],
    [{ waiting: '1d' }, 'retention.waiting'],
  ] as const)('%j is refused', (retention, option) => {
    expect(() => createWebhooks(withTestOptions('postgres://nobody@127.0.0.1:1/none', { retention }))).toThrow(option)
  })
})
