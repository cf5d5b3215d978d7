import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import type { Sql } from 'postgres'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export async function approve(sql: Sql, webhooks: Webhooks, commission: Approved): Promise<void> {
  await sql.begin(async (tx) => {
    const changed = await tx`
      update commissions set status = 'approved' where id = ${commission.commission_id} returning id`
    await webhooks.emit('commission.approved', commission, { tx })
    if (changed.length === 0) throw new Error('no such commission')
  })
}
