import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import { QueryTypes, type Sequelize } from 'sequelize'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export async function approve(sequelize: Sequelize, webhooks: Webhooks, commission: Approved): Promise<void> {
  await sequelize.transaction(async (transaction) => {
    const [, changed] = await sequelize.query(`update commissions set status = 'approved' where id = $id`, {
      bind: { id: commission.commission_id },
      type: QueryTypes.UPDATE,
      transaction,
    })
    await webhooks.emit('commission.approved', commission, { tx: transaction })
    if (changed === 0) throw new Error('no such commission')
  })
}
