import postgres from 'postgres'
import { type DataLayer, plainSavepoint, type Scope } from './data-layer.ts'

/** `prepare: false` is what a transaction-pooling proxy may ask for. */
export function postgresJs(prepare: boolean): DataLayer {
  return {
    name: prepare ? 'postgres.js' : 'postgres.js without prepared statements',
    async open(url, max = 4) {
      const sql = postgres(url, { max, prepare, onnotice: () => {} })
      const scopeOf = (tx: postgres.TransactionSql): Scope => ({
        tx,
        execute: (text) => tx.unsafe(text),
        savepoint: (work) => tx.savepoint((nested) => work(scopeOf(nested))) as Promise<void>,
      })
      return {
        transaction: <T>(work: (scope: Scope) => Promise<T>, isolation = 'read committed') =>
          sql.begin(`isolation level ${isolation}`, (tx) => work(scopeOf(tx))) as Promise<T>,
        outside: { pool: () => sql },
        close: () => sql.end({ timeout: 5 }),
      }
    },
  }
}

/** One connection of the pool, and transactions by hand. */
export const postgresJsReserved: DataLayer = {
  name: 'postgres.js, reserved connection',
  async open(url, max = 4) {
    const sql = postgres(url, { max, onnotice: () => {} })
    const idle = await sql.reserve()
    return {
      async transaction(work, isolation) {
        const tx = await sql.reserve()
        try {
          await tx.unsafe(`begin isolation level ${isolation ?? 'read committed'}`)
          const result = await work(plainSavepoint({ tx, execute: (text) => tx.unsafe(text) }))
          await tx.unsafe('commit')
          return result
        } catch (error) {
          await tx.unsafe('rollback')
          throw error
        } finally {
          tx.release()
        }
      },
      outside: { 'connection without begin': () => idle },
      async close() {
        idle.release()
        await sql.end({ timeout: 5 })
      },
    }
  },
}
