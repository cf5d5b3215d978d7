import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

/** Any client of one connection. */
export interface Client {
  query(text: string, values: unknown[]): Promise<{ rows: unknown[] }>
}

export async function approve(client: Client, webhooks: Webhooks, commission: Approved): Promise<void> {
  await client.query('begin', [])
  try {
    const { rows } = await client.query(`update commissions set status = 'approved' where id = $1 returning id`, [
      commission.commission_id,
    ])
    await webhooks.emit('commission.approved', commission, { tx: client })
    if (rows.length === 0) throw new Error('no such commission')
    await client.query('commit', [])
  } catch (error) {
    await client.query('rollback', [])
    throw error
  }
}
