import type { TransactionSql } from 'postgres'
import { ProgramError } from './errors.ts'
import { writeJournal } from './ledger.ts'
import { fromColumn, toAmount } from './money.ts'
import { inTransaction, type Program, payloadDate } from './program.ts'

export interface Commission {
  id: number
  affiliateId: number
  affiliateName: string
  orderId: number
  productName: string
  cents: number
  ratePoints: number
  currency: string
  status: 'pending' | 'approved' | 'rejected' | 'in_payout' | 'paid'
}

/** The shop accepts that it owes this commission. Emits `commission.approved`. */
export async function approveCommission(program: Program, id: number, by: string): Promise<Commission> {
  return inTransaction(program, async ({ tx, at, emit }) => {
    const commission = await review(tx, id, { status: 'approved', by, at, reason: null })
    await writeJournal(tx, {
      reason: 'commission_approved',
      debit: 'commission_expense',
      credit: 'affiliate_payable',
      affiliateId: commission.affiliateId,
      cents: commission.cents,
      currency: commission.currency,
      commissionId: id,
      at,
    })
    await emit('commission.approved', {
      ...describe(commission),
      approved_by: by,
      approved_date: payloadDate(at),
    })
    return commission
  })
}

/** Nothing will be paid for it. Emits `commission.rejected`. */
export async function rejectCommission(program: Program, id: number, by: string, reason: string): Promise<Commission> {
  return inTransaction(program, async ({ tx, at, emit }) => {
    const commission = await review(tx, id, { status: 'rejected', by, at, reason })
    await emit('commission.rejected', {
      ...describe(commission),
      reason,
      rejected_by: by,
      rejected_date: payloadDate(at),
    })
    return commission
  })
}

/** What every event about a commission says, in the order of the page's example. */
function describe(commission: Commission) {
  return {
    commission_id: commission.id,
    affiliate_id: commission.affiliateId,
    affiliate_name: commission.affiliateName,
    amount: toAmount(commission.cents),
    commission_rate: toAmount(commission.ratePoints),
    order_id: commission.orderId,
    product_name: commission.productName,
  }
}

interface Review {
  status: 'approved' | 'rejected'
  by: string
  at: Date
  reason: string | null
}

async function review(tx: TransactionSql, id: number, { status, by, at, reason }: Review): Promise<Commission> {
  const updated = await tx`
    update commissions set status = ${status}, reviewed_by = ${by}, reviewed_at = ${at}, rejection_reason = ${reason}
    where id = ${id} and status = 'pending'`
  const commission = await findCommission(tx, id)
  if (updated.count === 1) return commission
  throw new ProgramError(
    'WRONG_STATE',
    `Commission ${id} is ${commission.status}; only a pending one can be ${status}.`,
  )
}

export async function findCommission(sql: Program['sql'] | TransactionSql, id: number): Promise<Commission> {
  const [row] = await sql<(Omit<Commission, 'cents'> & { cents: string })[]>`
    select c.id, c.affiliate_id "affiliateId", a.name "affiliateName", o.order_id "orderId", o.product_name "productName",
      c.amount_cents cents, c.rate_points "ratePoints", c.currency, c.status
    from commissions c join affiliates a on a.id = c.affiliate_id join conversions o on o.id = c.conversion_id
    where c.id = ${id}`
  if (!row) throw new ProgramError('COMMISSION_NOT_FOUND', `There is no commission ${id}.`)
  return { ...row, cents: fromColumn(row.cents) }
}
