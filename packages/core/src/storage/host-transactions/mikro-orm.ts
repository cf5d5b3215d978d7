import { refusal } from './open-transaction.ts'

/** The EntityManager of MikroORM, in `em.transactional(async (em) => …)` or after `em.begin()`. */
export interface MikroOrmEntityManager {
  isInTransaction(): boolean
  getTransactionContext(): unknown
}

/**
 * What the EntityManager's transaction runs on: a transaction of Kysely from version 7 on, of Knex before.
 *
 * @throws PosthasteError INVALID_TRANSACTION where it is in none
 */
export function transactionOfMikroOrm(em: Record<string, unknown>): object {
  const manager = em as unknown as MikroOrmEntityManager
  const context = manager.isInTransaction() ? manager.getTransactionContext() : undefined
  if ((typeof context === 'object' || typeof context === 'function') && context !== null) return context
  throw refusal(
    'this EntityManager of MikroORM is in no transaction; use what em.transactional() hands to its callback, or call ' +
      'em.begin() first',
  )
}
