import { type OpenTransaction, refusal, rowsOf } from './open-transaction.ts'

/** A client of node-postgres, and whatever else has `query(text, values)`. */
export interface QueryTransaction {
  query(text: string, values: unknown[]): PromiseLike<{ rows: readonly unknown[] } | readonly unknown[]>
  /** A pool of node-postgres has it. */
  totalCount?: never
  /** A DataSource of TypeORM has it. */
  createQueryRunner?: never
  /** An instance of Sequelize has it. */
  getQueryInterface?: never
}

/** What node-postgres ≥ 8.17 tells, and where its queue stands. */
interface NodePostgresClient {
  getTransactionStatus?(): unknown
  readyForQuery?: unknown
  pipeline?: unknown
  _queryQueue?: unknown
}

export function openQuery(tx: Record<string, unknown>): OpenTransaction {
  if (typeof tx.connect === 'function' && ('totalCount' in tx || 'idleCount' in tx)) {
    throw refusal(
      'it is the pool of node-postgres, whose queries each run on a connection of their own; use a client with BEGIN',
    )
  }
  if (typeof tx.createQueryRunner === 'function') {
    throw refusal('it is the DataSource of TypeORM; use what dataSource.transaction() hands to its callback')
  }
  if (typeof tx.getQueryInterface === 'function') {
    throw refusal('it is the Sequelize instance; use what sequelize.transaction() hands to its callback')
  }
  const object = tx as unknown as QueryTransaction
  const client = tx as unknown as NodePostgresClient
  return {
    run: async (text, values) => rowsOf(await object.query(text, [...values])),
    check() {
      const status = statusOf(client)
      if (status === 'I') throw refusal('this client is in no transaction; call BEGIN first')
      if (status === 'E') throw refusal("this client's transaction has failed; all that it can do is ROLLBACK")
    },
    certain: () => statusOf(client) === 'T',
    single: false,
  }
}

/**
 * I: idle, T: in a transaction, E: in one that has failed; null where that is unknown. The status is that of the last answer,
 * so it says nothing of the next statement while others are still on their way (a COMMIT that nobody awaits, say).
 */
function statusOf(client: NodePostgresClient): unknown {
  if (typeof client.getTransactionStatus !== 'function') return null
  const isIdle =
    client.readyForQuery === true &&
    client.pipeline !== true &&
    Array.isArray(client._queryQueue) &&
    client._queryQueue.length === 0
  return isIdle ? client.getTransactionStatus() : null
}
