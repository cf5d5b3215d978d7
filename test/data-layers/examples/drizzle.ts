import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import { eq } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { integer, pgTable, text } from 'drizzle-orm/pg-core'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

const commissions = pgTable('commissions', { id: integer().primaryKey(), status: text().notNull() })

export async function approve(db: NodePgDatabase, webhooks: Webhooks, commission: Approved): Promise<void> {
  await db.transaction(async (tx) => {
    const changed = await tx
      .update(commissions)
      .set({ status: 'approved' })
      .where(eq(commissions.id, commission.commission_id))
      .returning()
    await webhooks.emit('commission.approved', commission, { tx })
    if (changed.length === 0) throw new Error('no such commission')
  })
}
