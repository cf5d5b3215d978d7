/** How many rows statements look at, by Postgres' own counters: dead ones count, which is the point. */
import type postgres from 'postgres'

/** Of one index, or of one table by sequential scans. */
export interface Visits {
  scans: number
  rows: number
}

/** Counters of everything in these schemas, by `table.index` or `table`. Sessions report theirs within a second or two. */
export async function visits(sql: postgres.Sql, schemas: readonly string[]): Promise<Map<string, Visits>> {
  const rows = await sql<{ name: string; scans: number; rows: number }[]>`
    select regexp_replace(relname, '_[0-9]{8}|_default', '') || '.' || regexp_replace(indexrelname, '_[0-9]{8}|_default', '') name,
      sum(idx_scan)::float8 scans, sum(idx_tup_read)::float8 rows
    from pg_stat_user_indexes where schemaname = any (${schemas as string[]}) group by 1
    union all
    select regexp_replace(relname, '_[0-9]{8}|_default', ''), sum(seq_scan)::float8, sum(seq_tup_read)::float8
    from pg_stat_user_tables where schemaname = any (${schemas as string[]}) group by 1`
  return new Map(rows.map(({ name, scans, rows }) => [name, { scans, rows }]))
}

/** Rows looked at per scan between two readings. */
export function perScan(before: ReadonlyMap<string, Visits>, after: ReadonlyMap<string, Visits>): Map<string, number> {
  const found = new Map<string, number>()
  for (const [name, { scans, rows }] of after) {
    const was = before.get(name) ?? { scans: 0, rows: 0 }
    if (scans > was.scans) found.set(name, (rows - was.rows) / (scans - was.scans))
  }
  return found
}
