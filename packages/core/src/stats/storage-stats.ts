/** What an operator wants to know of our tables before it hurts: sizes, what is late, and who keeps vacuum from working. */

import { sql } from '../storage/orm.ts'
import { rfc3339, type Store } from '../storage/tables.ts'

export interface TableSize {
  /** Partitions of a log count together. */
  name: string
  /** Postgres' own estimates. */
  rows: number
  deadRows: number
  tableBytes: number
  indexBytes: number
  /** 0 for a table that has none. */
  partitions: number
}

export interface VacuumHolder {
  kind: 'session' | 'prepared transaction' | 'replication slot' | 'standby'
  /** The process id of a session or of a standby's sender, the name of a slot, the id of a prepared transaction. */
  holder: string
  /** Since when; to the hour where the role may not see more. Null: longer than our marks go back, or younger than an hour. */
  since: string | null
  /** How many transactions have begun since. */
  ageInTransactions: number
  /** User, application and state, as far as the role may see them. */
  detail: string
}

export interface StorageStats {
  tables: TableSize[]
  totalBytes: number
  /** The Monday (RFC 3339) on which the oldest week that has partitions begins; null before the first. */
  oldestPartition: string | null
  /** Until when partitions exist. Emits after it fall into the DEFAULT partitions. */
  partitionsUntil: string | null
  /** Weeks past their time that are still there. Those of the state `kept` are meant to be. */
  leavingWeeks: { week: string; state: string; since: string; deliveriesKept: number }[]
  /** There are rows in a DEFAULT partition: partitions were missing when they were written. */
  strays: boolean
  /** When the oldest event was emitted that is committed and not dispatched; null without one. */
  oldestUndispatched: string | null
  /** Since when the oldest delivery waits that may be attempted now; null without one. What is held does not count. */
  oldestDue: string | null
  /** Who keeps vacuum from removing dead rows, the oldest first; at most ten. */
  vacuumHolders: VacuumHolder[]
}

export interface StorageStatistics {
  /** The state of the storage. Cheap: estimates and index look-ups; an ordinary role may call it. */
  storage(): Promise<StorageStats>
}

const MOST_HOLDERS = 10

type Row = Record<string, unknown>

export function createStorageStatistics(store: Store): StorageStatistics {
  const s = sql.raw(store.schema)
  return {
    storage: async () =>
      await store.read(async (queries) => {
        // One after the other: the pool is small, and a statement each keeps each plain.
        const tables =
          await queries.execute<Row>(sql`select name, rows, dead_rows, table_bytes::float8, index_bytes::float8, partitions
          from ${s}.table_sizes()`)
        const [facts] = await queries.execute<Row>(sql`
          select (select ${rfc3339(sql`min(w.week)`)} from ${s}.weeks() w) oldest,
            (select ${rfc3339(sql`(max(w.week) + interval '7 days')`)} from ${s}.weeks() w) until,
            exists (select from ${s}.events_default) or exists (select from ${s}.deliveries_default)
              or exists (select from ${s}.attempts_default) strays,
            ${rfc3339(sql`${s}.oldest_undispatched()`)} undispatched, ${rfc3339(sql`${s}.oldest_due()`)} due`)
        const leaving = await queries.execute<Row>(sql`
          select ${rfc3339(sql`week`)} week, state, ${rfc3339(sql`since`)} since, kept::float8 kept from ${s}.leaving_weeks order by 1`)
        const holders = await queries.execute<Row>(sql`
          select kind, holder, ${rfc3339(sql`since`)} since, age_in_transactions::float8 age, detail
          from ${s}.vacuum_holders() limit ${sql.raw(String(MOST_HOLDERS))}`)
        const sizes = tables.map(toTableSize)
        return {
          tables: sizes,
          totalBytes: sizes.reduce((sum, one) => sum + one.tableBytes + one.indexBytes, 0),
          oldestPartition: facts?.oldest as string | null,
          partitionsUntil: facts?.until as string | null,
          leavingWeeks: leaving.map((row) => ({
            week: row.week as string,
            state: row.state as string,
            since: row.since as string,
            deliveriesKept: row.kept as number,
          })),
          strays: facts?.strays as boolean,
          oldestUndispatched: facts?.undispatched as string | null,
          oldestDue: facts?.due as string | null,
          vacuumHolders: holders.map(toHolder),
        }
      }),
  }
}

function toTableSize(row: Row): TableSize {
  return {
    name: row.name as string,
    rows: row.rows as number,
    deadRows: row.dead_rows as number,
    tableBytes: row.table_bytes as number,
    indexBytes: row.index_bytes as number,
    partitions: row.partitions as number,
  }
}

function toHolder(row: Row): VacuumHolder {
  return {
    kind: row.kind as VacuumHolder['kind'],
    holder: row.holder as string,
    since: row.since as string | null,
    ageInTransactions: row.age as number,
    detail: (row.detail as string | null) ?? '',
  }
}
