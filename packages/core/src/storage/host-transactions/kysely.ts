import { isError } from '../../errors.ts'
import { type OpenTransaction, refusal, rowsOf } from './open-transaction.ts'

/** What `db.transaction().execute(async (tx) => …)` and `db.startTransaction().execute()` of Kysely hand out. */
export interface KyselyTransaction {
  readonly isTransaction: true
  executeQuery(query: never): PromiseLike<{ rows: readonly unknown[] }>
}

export function openKysely(tx: Record<string, unknown>): OpenTransaction {
  if (tx.isTransaction !== true) {
    throw refusal('it is the Kysely instance; use what db.transaction().execute() hands to its callback')
  }
  const kysely = tx as unknown as KyselyTransaction & { isCommitted?: boolean; isRolledBack?: boolean }
  return {
    async run(text, values) {
      // What CompiledQuery.raw() makes: a compiled query needs no compiler, and plugins leave its text alone.
      const query = {
        sql: text,
        parameters: values,
        query: { kind: 'RawNode', sqlFragments: [text], parameters: [] },
        queryId: { queryId: 'posthaste' },
      }
      try {
        return rowsOf(await kysely.executeQuery(query as never))
      } catch (error) {
        if (isError(error) && error.message.startsWith('Transaction is already ')) {
          throw refusal('its Kysely transaction has ended', error)
        }
        throw error
      }
    },
    check() {
      if (kysely.isCommitted === true || kysely.isRolledBack === true) {
        throw refusal('its Kysely transaction has ended')
      }
    },
    single: true,
  }
}
