import type { Webhooks } from '@posthaste/core'
import type { Sql, TransactionSql } from 'postgres'

/** The code under test: one transaction with the row and its event. */
export async function payOut(sql: Sql | TransactionSql, webhooks: Webhooks, id: number): Promise<void> {
  const work = async (tx: TransactionSql) => {
    const [payout] = await tx`update payouts set status = 'processed' where id = ${id} returning *`
    if (payout === undefined) throw new Error(`There is no payout ${id}.`)
    const { batch_id, affiliate_id, affiliate_name, cents } = payout
    const details = {
      commission_ids: [],
      method: 'bank_transfer',
      reference: `PAYOUT-${id}`,
      processed_date: new Date(),
    }
    const data = {
      payout_id: id,
      batch_id,
      affiliate_id,
      affiliate_name,
      amount: cents / 100,
      currency: 'USD',
      ...details,
    }
    await webhooks.emit('payout.processed', data, { tx })
  }
  await ('savepoint' in sql ? sql.savepoint(work) : sql.begin(work))
}
