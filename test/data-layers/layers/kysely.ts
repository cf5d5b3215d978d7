import { CompiledQuery, type ControlledTransaction, Kysely, PostgresDialect, type Transaction } from 'kysely'
import pg from 'pg'
import { type DataLayer, plainSavepoint } from './data-layer.ts'

type Tables = Record<string, never>

function openKysely(url: string, max = 4): Kysely<Tables> {
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: url, max }) }) })
}

export const kysely: DataLayer = {
  name: 'Kysely',
  async open(url, max) {
    const db = openKysely(url, max)
    const scopeOf = (tx: Transaction<Tables>) =>
      plainSavepoint({ tx, execute: (text) => tx.executeQuery(CompiledQuery.raw(text)) })
    return {
      transaction: (work, isolation) =>
        db
          .transaction()
          .setIsolationLevel(isolation ?? 'read committed')
          .execute((tx) => work(scopeOf(tx))),
      outside: { instance: () => db },
      close: () => db.destroy(),
    }
  },
}

export const kyselyControlled: DataLayer = {
  name: 'Kysely, controlled transaction',
  async open(url, max) {
    const db = openKysely(url, max)
    return {
      async transaction(work, isolation) {
        const tx = await db
          .startTransaction()
          .setIsolationLevel(isolation ?? 'read committed')
          .execute()
        const scopeOf = (inner: ControlledTransaction<Tables, string[]>) => ({
          tx: inner,
          execute: (text: string) => inner.executeQuery(CompiledQuery.raw(text)),
          async savepoint(nestedWork: Parameters<Parameters<typeof work>[0]['savepoint']>[0]) {
            const nested = await inner.savepoint('nested').execute()
            try {
              await nestedWork(scopeOf(nested))
              await nested.releaseSavepoint('nested').execute()
            } catch (error) {
              await nested.rollbackToSavepoint('nested').execute()
              throw error
            }
          },
        })
        try {
          const result = await work(scopeOf(tx))
          await tx.commit().execute()
          return result
        } catch (error) {
          if (!tx.isCommitted) await tx.rollback().execute()
          throw error
        }
      },
      outside: { instance: () => db },
      close: () => db.destroy(),
    }
  },
}
