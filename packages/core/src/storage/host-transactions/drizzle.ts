import { sql as drizzleSql, type SQL } from '../orm.ts'
import { type OpenTransaction, refusal, rowsOf, type StatementValues } from './open-transaction.ts'

/** What `db.transaction(async (tx) => …)` of Drizzle hands out, over any of its Postgres drivers. */
export interface DrizzleTransaction {
  execute(query: never): PromiseLike<unknown>
  rollback: unknown
}

export function openDrizzle(tx: Record<string, unknown>): OpenTransaction {
  if (typeof tx.rollback !== 'function') {
    throw refusal('it is the Drizzle database; use what db.transaction() hands to its callback')
  }
  const drizzle = tx as unknown as DrizzleTransaction
  return {
    run: async (text, values) => rowsOf(await drizzle.execute(toDrizzle(text, values) as never)),
    single: true,
  }
}

/** `$1` placeholders to a Drizzle query with the same text and parameters. */
function toDrizzle(text: string, values: StatementValues): SQL {
  const chunks = text
    .split(/\$(\d+)/)
    .map((part, index) => (index % 2 === 0 ? drizzleSql.raw(part) : drizzleSql`${values[Number(part) - 1]}`))
  return drizzleSql.join(chunks)
}
