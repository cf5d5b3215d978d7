import type { Sql } from '../storage/connection.ts'

/** Keeps the logs without partitions short: removes old rows that nobody reads any more. */
export interface LogUpkeep {
  run(): Promise<void>
}

/** Rows of `dispatches` beyond every lane's position are kept this long, for people. */
const KEEP_DISPATCHES = '1 hour'
const ROWS_PER_PURGE = 20_000
/** Marks older than this date nothing that is still there. */
const KEEP_MARKS = '400 days'

export function createLogUpkeep(sql: Sql, schema: string): LogUpkeep {
  const s = sql(schema)
  // Where the last purge of each ended: nothing reads through the dead rows before it.
  let dispatchesThrough: number | null = null
  let commandsThrough = '00000000-0000-0000-0000-000000000000'
  let turnsThrough = { tag: -1, n: 0 }
  let keysThrough = '-infinity'

  async function purgeDispatches(): Promise<void> {
    if (dispatchesThrough === null) {
      const [oldest] = await sql`select coalesce(min(n), 0) - 1 n from ${s}.dispatches`
      dispatchesThrough = oldest!.n as number
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
        where d.n > ${dispatchesThrough}::bigint and d.n < bound.n and d.n <= ${dispatchesThrough + ROWS_PER_PURGE}::bigint
          and d.at < clock_timestamp() - ${KEEP_DISPATCHES}::interval
        returning d.n)
      select max(n) through from gone`
    if (purged?.through != null) dispatchesThrough = purged.through as number
  }

  async function purgeCommands(): Promise<void> {
    const [told] = await sql`with gone as (
        delete from ${s}.commands c
        where c.id > ${commandsThrough}::uuid and c.id < ${s}.id_floor(clock_timestamp() - ${KEEP_DISPATCHES}::interval)
          and c.xid < (select pg_snapshot_xmin(d.snap) from ${s}.dispatches d order by d.n desc limit 1)
        returning c.id)
      select id::text from gone order by id desc limit 1`
    if (told !== undefined) commandsThrough = told.id as string
  }

  /** Chunks that had their turn; the one that was begun last stays. */
  async function purgeTurns(): Promise<void> {
    const [had] = await sql`with gone as (
        delete from ${s}.turns t using (select d.turn_tag, d.turn_n from ${s}.dispatches d order by d.n desc limit 1) pos
        where (t.tag, t.n) in (
          select o.tag, o.n from ${s}.turns o
          where (o.tag, o.n) > (${turnsThrough.tag}::bigint, ${turnsThrough.n}::bigint) order by o.tag, o.n limit ${ROWS_PER_PURGE})
          and (t.tag, t.n) < (pos.turn_tag, pos.turn_n)
        returning t.tag, t.n)
      select tag, n from gone order by gone.tag desc, gone.n desc limit 1`
    if (had !== undefined) turnsThrough = { tag: had.tag as number, n: had.n as number }
  }

  async function purgeKeys(): Promise<void> {
    const [row] = await sql`with until as materialized (select ${s}.clock() - interval '8 days' as bound),
      gone as (delete from ${s}.idempotency_keys k using until
        where k.at >= ${keysThrough}::text::timestamptz and k.at < until.bound)
      select bound::text from until`
    keysThrough = row!.bound as string
  }

  /** Which sequence number and transaction id were the newest at this hour. */
  async function markTime(): Promise<void> {
    await sql`insert into ${s}.time_marks (at, seq, xid)
      select ${s}.clock(), d.last_seq, pg_snapshot_xmax(d.snap) from ${s}.dispatches d
      where not exists (select from ${s}.time_marks m where m.at > ${s}.clock() - interval '1 hour')
      order by d.n desc limit 1 on conflict do nothing`
    await sql`delete from ${s}.time_marks where at < ${s}.clock() - ${KEEP_MARKS}::interval`
  }

  return {
    async run() {
      await purgeDispatches()
      await purgeCommands()
      await purgeTurns()
      await purgeKeys()
      await markTime()
    },
  }
}
