import { defineEntity, IsolationLevel, MikroORM, p, type SqlEntityManager } from '@mikro-orm/postgresql'
import type { DataLayer, Isolation, Scope } from './data-layer.ts'

export const Order = defineEntity({
  name: 'Order',
  tableName: 'orders',
  properties: { n: p.integer().primary() },
})

const ISOLATION = {
  'read committed': IsolationLevel.READ_COMMITTED,
  'repeatable read': IsolationLevel.REPEATABLE_READ,
  serializable: IsolationLevel.SERIALIZABLE,
}

export const mikroOrm: DataLayer = {
  name: 'MikroORM',
  async open(url, max = 4) {
    const orm = await MikroORM.init({
      clientUrl: url,
      entities: [Order],
      pool: { min: 0, max },
      debug: false,
    })
    const scopeOf = (tx: SqlEntityManager): Scope => ({
      tx,
      execute: (text) => tx.execute(text),
      savepoint: (work) => tx.transactional((nested) => work(scopeOf(nested))),
    })
    return {
      transaction: (work, isolation = 'read committed' as Isolation) =>
        orm.em.fork().transactional((tx) => work(scopeOf(tx)), { isolationLevel: ISOLATION[isolation] }),
      outside: { 'global EntityManager': () => orm.em, fork: () => orm.em.fork() },
      close: () => orm.close(),
    }
  },
}
