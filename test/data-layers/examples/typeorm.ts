import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import { type DataSource, EntitySchema } from 'typeorm'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export const Commission = new EntitySchema<{ id: number; status: string }>({
  name: 'commissions',
  columns: { id: { type: Number, primary: true }, status: { type: String } },
})

export async function approve(source: DataSource, webhooks: Webhooks, commission: Approved): Promise<void> {
  await source.transaction(async (manager) => {
    const { affected } = await manager.update(Commission, { id: commission.commission_id }, { status: 'approved' })
    await webhooks.emit('commission.approved', commission, { tx: manager })
    if (affected === 0) throw new Error('no such commission')
  })
}
