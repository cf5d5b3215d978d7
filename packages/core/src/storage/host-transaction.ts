import { sql as drizzleSql, type SQL } from 'drizzle-orm'
import { PosthasteError } from '../errors.ts'

/** What a transaction of postgres.js looks like to us: `sql.begin(async (tx) => …)`. */
export interface PostgresJsTransaction {
  unsafe(query: string, parameters?: never[], options?: { prepare?: boolean }): PromiseLike<readonly unknown[]>
  savepoint: unknown
}

/** node-postgres' client, and whatever else has `query(text, values)`. */
export interface QueryTransaction {
  query(text: string, values: unknown[]): PromiseLike<{ rows: readonly unknown[] } | readonly unknown[]>
}

/** A transaction of Drizzle over postgres.js or node-postgres: `db.transaction(async (tx) => …)`. */
export interface DrizzleTransaction {
  execute(query: SQL): PromiseLike<unknown>
  rollback: unknown
}

/** Every object that `emit` accepts as `tx`. */
export type HostTransaction = PostgresJsTransaction | QueryTransaction | DrizzleTransaction

/** Runs one statement in the host's transaction and returns its rows. */
export type RunInTransaction = (text: string, values: readonly (string | number | null)[]) => Promise<readonly Row[]>
type Row = Record<string, unknown>

/**
 * Recognises the host's transaction by its shape, without depending on any library.
 *
 * @throws PosthasteError INVALID_TRANSACTION for a pool, for a connection outside of a transaction where that shows, and for
 *   anything else; the message says what was expected
 */
export function adaptTransaction(tx: unknown): RunInTransaction {
  if (tx === null || (typeof tx !== 'object' && typeof tx !== 'function'))
    throw refused(`it is ${tx === null ? 'null' : typeof tx}`)
  const shape = tx as Record<string, unknown>
  if (typeof shape.unsafe === 'function') return adaptPostgresJs(shape)
  if (typeof shape.execute === 'function') return adaptDrizzle(shape)
  if (typeof shape.query === 'function') return adaptQuery(shape)
  throw refused('it has none of unsafe(), execute() and query()')
}

function adaptPostgresJs(tx: Record<string, unknown>): RunInTransaction {
  // `sql` itself has begin() and end(); what begin() hands out has savepoint().
  if (typeof tx.savepoint !== 'function') {
    throw refused('it is the postgres.js pool; use what sql.begin() hands to its callback')
  }
  const run = tx as unknown as PostgresJsTransaction
  // prepare: without it postgres.js asks the server for the parameters' types first, every time (a second round trip). A
  // client with `prepare: false` (transaction-pooling proxies) stays unprepared.
  return async (text, values) => (await run.unsafe(text, [...values] as never[], { prepare: true })) as readonly Row[]
}

function adaptDrizzle(tx: Record<string, unknown>): RunInTransaction {
  if (typeof tx.rollback !== 'function') {
    throw refused('it is the Drizzle database; use what db.transaction() hands to its callback')
  }
  const run = tx as unknown as DrizzleTransaction
  return async (text, values) => rowsOf(await run.execute(toDrizzle(text, values)))
}

function adaptQuery(tx: Record<string, unknown>): RunInTransaction {
  if (typeof tx.connect === 'function' && ('totalCount' in tx || 'idleCount' in tx)) {
    throw refused(
      'it is the node-postgres pool, whose queries each run on a connection of their own; use a client with BEGIN',
    )
  }
  // pg ≥ 8.17 tells where its client stands: I is idle, T in a transaction, E in one that has failed.
  const status = typeof tx.getTransactionStatus === 'function' ? tx.getTransactionStatus() : undefined
  if (status === 'I') throw refused('this client is in no transaction; call BEGIN first')
  const run = tx as unknown as QueryTransaction
  return async (text, values) => rowsOf(await run.query(text, [...values]))
}

/** `$1` placeholders to a Drizzle query with the same text and parameters. */
function toDrizzle(text: string, values: readonly (string | number | null)[]): SQL {
  const chunks = text
    .split(/\$(\d+)/)
    .map((part, index) => (index % 2 === 0 ? drizzleSql.raw(part) : drizzleSql`${values[Number(part) - 1]}`))
  return drizzleSql.join(chunks)
}

function rowsOf(result: unknown): readonly Row[] {
  if (Array.isArray(result)) return result as Row[]
  const rows = (result as { rows?: unknown } | null)?.rows
  return Array.isArray(rows) ? (rows as Row[]) : []
}

function refused(why: string): PosthasteError {
  return new PosthasteError(
    'INVALID_TRANSACTION',
    `emit needs an open transaction as { tx }: of postgres.js, node-postgres, Drizzle, or any object with query(text, values). This is not one: ${why}.`,
  )
}
