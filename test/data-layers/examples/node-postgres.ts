import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
import type { Pool } from 'pg'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export async function approve(pool: Pool, webhooks: Webhooks, commission: Approved): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    const { rowCount } = await client.query(`update commissions set status = 'approved' where id = $1`, [
      commission.commission_id,
    ])
    await webhooks.emit('commission.approved', commission, { tx: client })
    if (rowCount === 0) throw new Error('no such commission')
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  } finally {
    client.release()
  }
}
