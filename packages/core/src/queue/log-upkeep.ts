import type { Sql } from '../storage/connection.ts'

/** Keeps the logs in shape: partitions ahead of time, and old rows that nobody reads any more. */
export interface LogUpkeep {
  run(): Promise<void>
}

/** Partitions exist this far ahead. */
const AHEAD = '37 days'
/** Rows of `dispatches` beyond every lane's position are kept this long, for people. */
const KEEP_DISPATCHES = '1 hour'
const ROWS_PER_PURGE = 20_000

export function createLogUpkeep(sql: Sql, schema: string): LogUpkeep {
  const s = sql(schema)
  /** Where the last purge ended: nothing reads through the dead rows before it. */
  let purgedThrough: number | null = null
  /** The same for dispatched commands: the newest one that is gone. */
  let commandsThrough = '00000000-0000-0000-0000-000000000000'
  return {
    async run() {
      await sql`select ${s}.make_partitions(clock_timestamp(), clock_timestamp() + ${AHEAD}::interval)`
      if (purgedThrough === null) {
        const [oldest] = await sql`select coalesce(min(n), 0) - 1 n from ${s}.dispatches`
        purgedThrough = oldest!.n as number
      }
      const [purged] = await sql`with bound as (
          select least((select max(n) from ${s}.dispatches), min(greatest(l.position, coalesce(held.position, 0)))) - 1 n
          from ${s}.lanes l left join lateral (
            select p.position from (
              select r.lanes, r.positions from ${s}.renewals r where r.token = l.token order by r.seq desc limit 1) newest
            cross join unnest(newest.lanes, newest.positions) p(lane, position) where p.lane = l.lane) held on true
        ),
        gone as (
          delete from ${s}.dispatches d using bound
          where d.n > ${purgedThrough}::bigint and d.n < bound.n and d.n <= ${purgedThrough + ROWS_PER_PURGE}::bigint
            and d.at < clock_timestamp() - ${KEEP_DISPATCHES}::interval
          returning d.n)
        select max(n) through from gone`
      if (purged?.through != null) purgedThrough = purged.through as number
      const [told] = await sql`with gone as (
          delete from ${s}.commands c
          where c.id > ${commandsThrough}::uuid and c.id < ${s}.id_floor(clock_timestamp() - ${KEEP_DISPATCHES}::interval)
            and c.xid < (select pg_snapshot_xmin(d.snap) from ${s}.dispatches d order by d.n desc limit 1)
          returning c.id)
        select id::text from gone order by id desc limit 1`
      if (told !== undefined) commandsThrough = told.id as string
      await sql`delete from ${s}.idempotency_keys where at < ${s}.clock() - interval '8 days'`
    },
  }
}
