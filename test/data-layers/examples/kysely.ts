import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import type { Kysely } from 'kysely'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export interface Database {
  commissions: { id: number; status: string }
}

export async function approve(db: Kysely<Database>, webhooks: Webhooks, commission: Approved): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const { numUpdatedRows } = await tx
      .updateTable('commissions')
      .set({ status: 'approved' })
      .where('id', '=', commission.commission_id)
      .executeTakeFirst()
    await webhooks.emit('commission.approved', commission, { tx })
    if (numUpdatedRows === 0n) throw new Error('no such commission')
  })
}
