import type postgres from 'postgres'
import type { Sql } from './connection.ts'

/**
 * The part of a `with` clause by which everything that an owner writes is fenced: `me` locks the worker's row against being
 * fenced until the statement ends, and is empty when it already is. It is also empty in another life of the database (a standby
 * took over, a restored copy is in its place): what the worker remembers is not true there.
 */
export function workerFence(sql: Sql, schema: string): (token: number) => postgres.PendingQuery<postgres.Row[]> {
  const s = sql(schema)
  return (
    token,
  ) => sql`me as (select token from ${s}.workers where token = ${token} and not fenced and life = ${s}.life()
    for share)`
}
