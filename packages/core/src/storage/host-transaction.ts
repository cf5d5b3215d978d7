/** The host's transaction, recognised by its shape, without depending on any of the libraries. */
import { type DrizzleTransaction, openDrizzle } from './host-transactions/drizzle.ts'
import { type KnexTransaction, openKnex } from './host-transactions/knex.ts'
import { type KyselyTransaction, openKysely } from './host-transactions/kysely.ts'
import { type MikroOrmEntityManager, transactionOfMikroOrm } from './host-transactions/mikro-orm.ts'
import { type OpenTransaction, refusal } from './host-transactions/open-transaction.ts'
import { openPostgresJs, type PostgresJsReserved, type PostgresJsTransaction } from './host-transactions/postgres-js.ts'
import { openPrisma, type PrismaTransaction } from './host-transactions/prisma.ts'
import { openQuery, type QueryTransaction } from './host-transactions/query.ts'
import { openSequelize, type SequelizeTransaction } from './host-transactions/sequelize.ts'
import {
  openTypeOrm,
  queryRunnerOf,
  type TypeOrmEntityManager,
  type TypeOrmQueryRunner,
} from './host-transactions/typeorm.ts'

/** Every object that `emit` accepts as `tx`. */
export type HostTransaction =
  | PostgresJsTransaction
  | PostgresJsReserved
  | DrizzleTransaction
  | KyselyTransaction
  | KnexTransaction
  | PrismaTransaction
  | TypeOrmEntityManager
  | TypeOrmQueryRunner
  | MikroOrmEntityManager
  | SequelizeTransaction
  | QueryTransaction

export type {
  DrizzleTransaction,
  KnexTransaction,
  KyselyTransaction,
  MikroOrmEntityManager,
  OpenTransaction,
  PostgresJsReserved,
  PostgresJsTransaction,
  PrismaTransaction,
  QueryTransaction,
  SequelizeTransaction,
  TypeOrmEntityManager,
  TypeOrmQueryRunner,
}

/**
 * The object that a transaction is bound to: for an EntityManager what is behind it at this moment, else `tx` itself.
 *
 * @throws PosthasteError INVALID_TRANSACTION for what is no object, and for an EntityManager outside of a transaction
 */
export function transactionObject(tx: unknown): object {
  if (tx === null || (typeof tx !== 'object' && typeof tx !== 'function')) {
    throw refusal(`it is ${tx === null ? 'null' : `of type ${typeof tx}`}`)
  }
  const shape = tx as Record<string, unknown>
  if (isFunction(shape.isInTransaction) && isFunction(shape.getTransactionContext)) return transactionOfMikroOrm(shape)
  if (isFunction(shape.getRepository) && isFunction(shape.query) && !isFunction(shape.createQueryRunner)) {
    return queryRunnerOf(shape)
  }
  return tx
}

/**
 * Makes a transaction of what `transactionObject` answered.
 *
 * @throws PosthasteError INVALID_TRANSACTION for a pool, and for anything that is not recognised; the message says what was
 *   expected
 */
export function openTransaction(tx: object): OpenTransaction {
  const shape = tx as Record<string, unknown>
  // Prisma first: a client of Prisma answers for members that it does not have.
  if (isFunction(shape.$queryRawUnsafe)) return openPrisma(shape)
  if (isFunction(shape.executeQuery)) return openKysely(shape)
  if (isFunction(shape.raw)) return openKnex(shape)
  if (isFunction(shape.unsafe)) return openPostgresJs(shape)
  if (isFunction(shape.afterCommit) && isFunction(shape.rollback)) return openSequelize(shape)
  if (isFunction(shape.query) && 'isTransactionActive' in shape) return openTypeOrm(shape)
  if (isFunction(shape.execute)) return openDrizzle(shape)
  if (isFunction(shape.query)) return openQuery(shape)
  throw refusal('it has nothing that runs a statement, such as query(text, values)')
}

function isFunction(value: unknown): boolean {
  return typeof value === 'function'
}
