import createKnex, { type Knex } from 'knex'
import type { DataLayer, Scope } from './data-layer.ts'

export const knex: DataLayer = {
  name: 'Knex',
  async open(url, max = 4) {
    const db = createKnex({ client: 'pg', connection: url, pool: { min: 0, max } })
    const scopeOf = (tx: Knex.Transaction): Scope => ({
      tx,
      execute: async (text) => await tx.raw(text),
      savepoint: (work) => tx.transaction((nested) => work(scopeOf(nested))),
    })
    return {
      transaction: (work, isolation) =>
        db.transaction((tx) => work(scopeOf(tx)), { isolationLevel: isolation ?? 'read committed' }),
      outside: { instance: () => db },
      close: () => db.destroy(),
    }
  },
}
