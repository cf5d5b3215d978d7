import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import type { DataSource } from 'typeorm'
import { Commission } from './typeorm.ts'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export async function approve(source: DataSource, webhooks: Webhooks, commission: Approved): Promise<void> {
  const runner = source.createQueryRunner()
  try {
    await runner.startTransaction()
    const { affected } = await runner.manager.update(
      Commission,
      { id: commission.commission_id },
      { status: 'approved' },
    )
    await webhooks.emit('commission.approved', commission, { tx: runner })
    if (affected === 0) throw new Error('no such commission')
    await runner.commitTransaction()
  } catch (error) {
    if (runner.isTransactionActive) await runner.rollbackTransaction()
    throw error
  } finally {
    await runner.release()
  }
}
