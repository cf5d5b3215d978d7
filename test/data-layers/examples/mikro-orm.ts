import { defineEntity, type MikroORM, p } from '@mikro-orm/postgresql'
import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export const Commission = defineEntity({
  name: 'Commission',
  tableName: 'commissions',
  properties: { id: p.integer().primary(), status: p.text() },
})

export async function approve(orm: MikroORM, webhooks: Webhooks, commission: Approved): Promise<void> {
  await orm.em.fork().transactional(async (em) => {
    const found = await em.findOneOrFail(Commission, { id: commission.commission_id })
    found.status = 'approved'
    await webhooks.emit('commission.approved', commission, { tx: em })
  })
}
