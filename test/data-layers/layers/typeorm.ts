import { DataSource, type EntityManager } from 'typeorm'
import { type DataLayer, type Isolation, plainSavepoint, type Scope } from './data-layer.ts'

const ISOLATION = {
  'read committed': 'READ COMMITTED',
  'repeatable read': 'REPEATABLE READ',
  serializable: 'SERIALIZABLE',
} as const

async function openDataSource(url: string, max = 4): Promise<DataSource> {
  const source = new DataSource({ type: 'postgres', url, extra: { max }, logging: false })
  return await source.initialize()
}

export const typeOrmManager: DataLayer = {
  name: 'TypeORM, EntityManager',
  async open(url, max) {
    const source = await openDataSource(url, max)
    const scopeOf = (tx: EntityManager): Scope => ({
      tx,
      execute: (text) => tx.query(text),
      savepoint: (work) => tx.transaction((nested) => work(scopeOf(nested))),
    })
    return {
      transaction: (work, isolation = 'read committed' as Isolation) =>
        source.transaction(ISOLATION[isolation], (tx) => work(scopeOf(tx))),
      outside: { 'data source': () => source, 'its manager': () => source.manager },
      close: () => source.destroy(),
    }
  },
}

export const typeOrmRunner: DataLayer = {
  name: 'TypeORM, QueryRunner',
  async open(url, max) {
    const source = await openDataSource(url, max)
    const idle = source.createQueryRunner()
    return {
      async transaction(work, isolation = 'read committed' as Isolation) {
        const tx = source.createQueryRunner()
        try {
          await tx.startTransaction(ISOLATION[isolation])
          const result = await work(plainSavepoint({ tx, execute: (text) => tx.query(text) }))
          await tx.commitTransaction()
          return result
        } catch (error) {
          if (tx.isTransactionActive) await tx.rollbackTransaction()
          throw error
        } finally {
          await tx.release()
        }
      },
      outside: { 'runner without a transaction': () => idle },
      async close() {
        await idle.release()
        await source.destroy()
      },
    }
  },
}
