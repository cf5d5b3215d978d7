import type postgres from 'postgres'
import type { Sql } from './connection.ts'

/**
 * The part of a `with` clause by which everything that an owner writes is fenced: `me` locks the worker's row against being
 * fenced until the statement ends, and is empty when it already is.
 */
export function workerFence(sql: Sql, schema: string): (token: number) => postgres.PendingQuery<postgres.Row[]> {
  const s = sql(schema)
  return (token) => sql`me as (select token from ${s}.workers where token = ${token} and not fenced for share)`
}
