import { Sequelize, type Transaction } from 'sequelize'
import type { DataLayer, Scope } from './data-layer.ts'

const ISOLATION = { 'repeatable read': 'REPEATABLE READ', serializable: 'SERIALIZABLE' } as const

export const sequelize: DataLayer = {
  name: 'Sequelize',
  async open(url, max = 4) {
    const db = new Sequelize(url, { dialect: 'postgres', logging: false, pool: { max } })
    const scopeOf = (transaction: Transaction): Scope => ({
      tx: transaction,
      execute: (text) => db.query(text, { transaction }),
      savepoint: (work) => db.transaction({ transaction }, (nested) => work(scopeOf(nested))),
    })
    return {
      transaction: (work, isolation) =>
        db.transaction(
          { isolationLevel: (isolation ? ISOLATION[isolation] : 'READ COMMITTED') as Transaction.ISOLATION_LEVELS },
          (tx) => work(scopeOf(tx)),
        ),
      outside: { instance: () => db },
      close: () => db.close(),
    }
  },
}
