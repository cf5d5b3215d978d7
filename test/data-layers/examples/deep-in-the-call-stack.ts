import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import type { Sql, TransactionSql } from 'postgres'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

/** Knows of commissions and events, and of no transaction of webhooks'. */
async function markApproved(tx: TransactionSql, webhooks: Webhooks, commission: Approved): Promise<void> {
  const changed =
    await tx`update commissions set status = 'approved' where id = ${commission.commission_id} returning id`
  await webhooks.emit('commission.approved', commission)
  if (changed.length === 0) throw new Error('no such commission')
}

export async function approve(sql: Sql, webhooks: Webhooks, commission: Approved): Promise<void> {
  await sql.begin((tx) => webhooks.transaction(tx, () => markApproved(tx, webhooks, commission)))
}
