import { type OpenTransaction, type Row, refusal } from './open-transaction.ts'

/** What `sql.begin(async (tx) => …)` and `tx.savepoint(…)` of postgres.js hand out. */
export interface PostgresJsTransaction {
  unsafe(query: string, parameters?: never[], options?: { prepare?: boolean }): PromiseLike<readonly unknown[]>
  savepoint: unknown
}

/** What `sql.reserve()` of postgres.js hands out; a transaction only between the host's own `begin` and `commit`. */
export interface PostgresJsReserved {
  unsafe(query: string, parameters?: never[], options?: { prepare?: boolean }): PromiseLike<readonly unknown[]>
  release(): void
}

/** Nothing shows whether such an object's transaction is over: it runs statements as long as its connection lives. */
export function openPostgresJs(tx: Record<string, unknown>): OpenTransaction {
  const inTransaction = typeof tx.savepoint === 'function'
  if (!inTransaction && (typeof tx.release !== 'function' || typeof tx.begin === 'function')) {
    throw refusal('it is the pool of postgres.js; use what sql.begin() hands to its callback')
  }
  const sql = tx as unknown as PostgresJsTransaction
  return {
    // prepare: without it postgres.js asks the server for the parameters' types first, every time (a second round trip). A
    // client with `prepare: false` (transaction-pooling proxies) stays unprepared.
    run: async (text, values) => (await sql.unsafe(text, [...values] as never[], { prepare: true })) as readonly Row[],
    single: inTransaction,
    pipelines: true,
  }
}
