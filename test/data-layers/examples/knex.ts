import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import type { Knex } from 'knex'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export async function approve(knex: Knex, webhooks: Webhooks, commission: Approved): Promise<void> {
  await knex.transaction(async (tx) => {
    const changed = await tx('commissions').where({ id: commission.commission_id }).update({ status: 'approved' })
    await webhooks.emit('commission.approved', commission, { tx })
    if (changed === 0) throw new Error('no such commission')
  })
}
