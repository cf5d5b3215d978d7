import { type OpenTransaction, refusal, rowsOf, type StatementValues } from './open-transaction.ts'

/** What `knex.transaction(async (trx) => …)` of Knex hands out, and so `Model.transaction` of Objection. */
export interface KnexTransaction {
  raw(sql: string, bindings: never): PromiseLike<unknown>
  isCompleted(): boolean
}

export function openKnex(tx: Record<string, unknown>): OpenTransaction {
  if (typeof tx.isCompleted !== 'function') {
    throw refusal('it is the Knex instance; use what knex.transaction() hands to its callback')
  }
  const knex = tx as unknown as KnexTransaction
  return {
    async run(text, values) {
      const { sql, bindings } = toKnex(text, values)
      return rowsOf(await knex.raw(sql, bindings as never))
    },
    check() {
      if (knex.isCompleted()) throw refusal('its Knex transaction has ended')
    },
    single: true,
  }
}

/** Knex counts its placeholders: a parameter that is used twice is given twice. */
function toKnex(text: string, values: StatementValues): { sql: string; bindings: (string | null)[] } {
  const bindings: (string | null)[] = []
  const sql = text.replace(/\$(\d+)/g, (_placeholder, number: string) => {
    bindings.push(values[Number(number) - 1] ?? null)
    return '?'
  })
  return { sql, bindings }
}
