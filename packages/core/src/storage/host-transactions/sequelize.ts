import { type OpenTransaction, refusal, rowsOf } from './open-transaction.ts'

/** What `sequelize.transaction(async (transaction) => …)` of Sequelize hands out. */
export interface SequelizeTransaction {
  commit(): PromiseLike<void>
  rollback(): PromiseLike<void>
  afterCommit(listener: never): unknown
}

/** Not in its declarations, and yet what Sequelize itself reads. */
interface SequelizeInternals {
  sequelize: { query(sql: string, options: object): PromiseLike<unknown> }
  finished?: unknown
}

export function openSequelize(tx: Record<string, unknown>): OpenTransaction {
  const transaction = tx as unknown as SequelizeInternals
  if (typeof transaction.sequelize?.query !== 'function') throw refusal('its Sequelize instance cannot be found')
  return {
    // SELECT is how Sequelize is told to answer the rows, also of an INSERT … RETURNING.
    run: async (text, values) =>
      rowsOf(
        await transaction.sequelize.query(text, { bind: [...values], transaction: tx, type: 'SELECT', raw: true }),
      ),
    check() {
      if (transaction.finished !== undefined) throw refusal('its Sequelize transaction has ended')
    },
    single: true,
  }
}
