import type { AnyCatalog, EventData, EventType } from '../catalog/define-events.ts'
import { toPublicId } from '../ids.ts'
import { type HostTransaction, openTransaction, transactionObject } from '../storage/host-transaction.ts'
import { refusal } from '../storage/host-transactions/open-transaction.ts'

/** An event as an open transaction has emitted it. Switch on `type`, and `data` is of that type. */
export type EmittedInTransaction<C extends AnyCatalog> = {
  [N in EventType<C>]: {
    id: string
    type: N
    /** As it will be sent: after JSON. */
    data: JsonOf<EventData<C, N>>
    account: string
    occurredAt: Date
    idempotencyKey: string | null
  }
}[EventType<C>]

/** What JSON makes of a value: dates are text. */
type JsonOf<T> = T extends Date ? string : T extends object ? { [K in keyof T]: JsonOf<T[K]> } : T

/**
 * What this open transaction has emitted so far, in order; what was rolled back to a savepoint is not in it.
 *
 * @throws PosthasteError INVALID_TRANSACTION for what is no open transaction
 */
export async function emittedIn<C extends AnyCatalog>(
  schema: string,
  tx: HostTransaction,
): Promise<EmittedInTransaction<C>[]> {
  const transaction = openTransaction(transactionObject(tx))
  transaction.check?.()
  const rows = await transaction.run(
    `select e.id::text id, e.account, e.type, e.data, (extract(epoch from coalesce(e.occurred_at, ${schema}.id_time(e.id))) * 1000)::text occurred_ms,
      e.idempotency_key, pg_current_xact_id_if_assigned()::text xid
    from (values (1)) one(n) left join ${schema}.events e on e.xid = pg_current_xact_id_if_assigned() order by e.id`,
    [],
  )
  if (rows.length === 0) throw refusal('its connection answered nothing')
  return rows
    .filter(({ id }) => typeof id === 'string')
    .map((row) => ({
      id: toPublicId('evt', row.id as string),
      type: row.type,
      data: JSON.parse(row.data as string),
      account: row.account,
      occurredAt: new Date(Number(row.occurred_ms)),
      idempotencyKey: row.idempotency_key,
    })) as EmittedInTransaction<C>[]
}
