/** Removing an old week while a host's transaction that has emitted is open, and while a backup holds its locks. */
import postgres from 'postgres'
import { expect } from 'vitest'
import { Lifecycle } from '../../packages/core/src/lifecycle/events.ts'
import { silentLogger } from '../../packages/core/src/logger.ts'
import { createPartitionUpkeep } from '../../packages/core/src/queue/partition-upkeep.ts'
import { connect } from '../../packages/core/src/storage/connection.ts'
import { makeOldWeek, suffixOf, weekBefore } from './old-weeks.ts'
import { until } from './until.ts'
import { underTest } from './webhooks-under-test.ts'

const DAY = 86_400_000
/** The `lock_timeout` of the functions that remove partitions. */
const LOCK_TIMEOUT_MS = 150

export interface WaitedForUpkeep {
  /** Waits of emitters for a lock, in ms, as Postgres saw them while the upkeep tried again and again. */
  longestWaitMs: number
  emitted: number
}

/**
 * Emits all the while from four connections, and looks every few ms how long any of them has been waiting for a lock: that is the
 * claim, and a busy machine does not change it.
 */
export async function removeBesideOthers(rows: number): Promise<WaitedForUpkeep> {
  const host = await underTest()
  const sql = connect(host.database.url, 3)
  const watcher = postgres(host.database.url, { max: 1, onnotice: () => {} })
  const backup = postgres(host.database.url, { max: 1 })
  const emitter = postgres(host.database.url, { max: 1 })
  const week = weekBefore(6)
  const background: Promise<void>[] = []
  let going = true
  let emitted = 0
  let longestWaitMs = 0
  try {
    const endpoint = await host.numberOf((await host.endpoint('http://127.0.0.1:9/nobody')).id)
    await makeOldWeek(host.sql, week, { events: rows, endpoint, became: ['succeeded'], afterSeq: 0 })
    const upkeep = createPartitionUpkeep({
      sql,
      schema: 'posthaste',
      clock: { now: Date.now, monotonic: () => performance.now() },
      logger: silentLogger,
      lifecycle: new Lifecycle(silentLogger),
      retention: { eventsMs: 30 * DAY, failedMs: 30 * DAY, waitingMs: 90 * DAY },
    })
    const partsLeft = async () => {
      const [row] = await watcher`select count(*)::int n from pg_class where relnamespace = 'posthaste'::regnamespace
        and relkind = 'r' and relname like ${`%\\${suffixOf(week)}`}`
      return row!.n as number
    }
    const rowsLeft = async () => {
      const [row] = await watcher.unsafe(`select exists (select from posthaste.events${suffixOf(week)}) yes`)
      return row!.yes as boolean
    }
    background.push(
      ...Array.from({ length: 4 }, async () => {
        while (going) {
          await host.emit(1)
          emitted++
        }
      }),
    )
    background.push(
      (async () => {
        while (going) {
          const [row] = await watcher`select max(extract(epoch from clock_timestamp() - l.waitstart) * 1000)::float8 ms
          from pg_locks l join pg_stat_activity a on a.pid = l.pid
          where not l.granted and l.waitstart is not null and a.query like 'insert into posthaste.events%'`
          longestWaitMs = Math.max(longestWaitMs, (row?.ms as number | null) ?? 0)
        }
      })(),
    )

    // A backup: pg_dump begins by taking ACCESS SHARE on every table, and keeps it to its end.
    const backedUp = Promise.withResolvers<void>()
    const backingUp = backup.begin('isolation level repeatable read', async (tx) => {
      const tables = await tx`select format('%I.%I', relnamespace::regnamespace, relname) name from pg_class
        where relnamespace = 'posthaste'::regnamespace and relkind in ('r', 'p')`
      await tx.unsafe(`lock table ${tables.map((row) => row.name as string).join(', ')} in access share mode`)
      await backedUp.promise
    })
    await until('the backup to hold its locks', async () => {
      const [row] = await host.sql`select count(*)::int n from pg_locks where mode = 'AccessShareLock' and granted
        and relation = 'posthaste.events'::regclass and pid <> pg_backend_pid()`
      return (row!.n as number) > 0
    })
    for (let tries = 0; tries < 5; tries++) expect(await upkeep.run()).toBe(true)
    expect([await rowsLeft(), await partsLeft()]).toEqual([true, 3])

    // A host's transaction that has emitted, and stays open beyond the backup's end.
    const committed = Promise.withResolvers<void>()
    const opened = Promise.withResolvers<void>()
    const open = emitter.begin(async (tx) => {
      await host.webhooks.emit('test.happened', { n: 0 }, { tx })
      opened.resolve()
      await committed.promise
    })
    await opened.promise
    backedUp.resolve()
    await backingUp
    // Its rows go at once. The empty tables follow when nobody has emitted and not committed.
    await until(
      'the rows to be gone',
      async () => {
        await upkeep.run()
        return !(await rowsLeft())
      },
      120_000,
    )
    for (let tries = 0; tries < 5; tries++) expect(await upkeep.run()).toBe(true)
    expect(await partsLeft()).toBeGreaterThan(0)
    committed.resolve()
    await open
    await until(
      'the week to be gone',
      async () => {
        await upkeep.run()
        return (await partsLeft()) === 0
      },
      60_000,
    )

    going = false
    await Promise.all(background)
    // How late a busy machine notices a timeout is not the claim; without one an emit would wait for the others' ends.
    expect(longestWaitMs).toBeLessThan(LOCK_TIMEOUT_MS + 850)
    return { longestWaitMs, emitted }
  } finally {
    going = false
    await Promise.allSettled(background)
    await Promise.all([sql, watcher, backup, emitter].map((one) => one.end({ timeout: 5 })))
    await host.stop()
  }
}
