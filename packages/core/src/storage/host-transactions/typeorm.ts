import { type OpenTransaction, refusal, rowsOf } from './open-transaction.ts'

/** TypeORM's QueryRunner after `startTransaction()`. */
export interface TypeOrmQueryRunner {
  query(text: string, values: unknown[]): PromiseLike<unknown>
  readonly isTransactionActive: boolean
  readonly isReleased: boolean
}

/** The EntityManager that `dataSource.transaction(async (manager) => …)` of TypeORM hands out. */
export interface TypeOrmEntityManager {
  query(text: string, values: unknown[]): PromiseLike<unknown>
  getRepository: unknown
  readonly queryRunner?: TypeOrmQueryRunner | undefined
  /** A DataSource has it; its queries each run on a connection of their own. */
  createQueryRunner?: never
}

/** @throws PosthasteError INVALID_TRANSACTION for the EntityManager of the DataSource */
export function queryRunnerOf(manager: Record<string, unknown>): object {
  const runner = manager.queryRunner
  if (typeof runner === 'object' && runner !== null) return runner
  throw refusal(
    'it is the EntityManager of the DataSource, which runs each query on a connection of its own; use the one that ' +
      'dataSource.transaction() hands to its callback',
  )
}

export function openTypeOrm(tx: Record<string, unknown>): OpenTransaction {
  const runner = tx as unknown as TypeOrmQueryRunner
  return {
    run: async (text, values) => rowsOf(await runner.query(text, [...values])),
    check() {
      if (runner.isReleased) throw refusal('its QueryRunner has been released')
      if (!runner.isTransactionActive)
        throw refusal('its QueryRunner is in no transaction; call startTransaction() first')
    },
    // One QueryRunner may have many transactions, one after another.
    single: false,
  }
}
