import type { TransactionSql } from 'postgres'
import { ProgramError } from './errors.ts'
import { type Journal, writeJournal } from './ledger.ts'
import { fromColumn, toAmount } from './money.ts'
import { inTransaction, type Program, payloadDate, type Step } from './program.ts'

/** What one affiliate is paid, as a part of a batch. */
export interface Payout {
  id: number
  batchId: number
  affiliateId: number
  affiliateName: string
  cents: number
  currency: string
  commissionIds: number[]
  method: string
  status: 'created' | 'processed' | 'failed'
}

export interface PayoutBatch {
  id: number
  payouts: Payout[]
}

/**
 * Puts every approved commission of a currency (default `USD`) into a batch with one payout for each affiliate. Emits
 * `payout.created` for each of them.
 */
export async function createPayoutBatch(
  program: Program,
  { currency = 'USD', method = 'bank_transfer' }: { currency?: string; method?: string } = {},
): Promise<PayoutBatch> {
  return inTransaction(program, async (step) => {
    // Of two batches made at once the second waits here, then finds these commissions no longer approved. Always in the
    // order of their ids, so that two never wait for each other.
    const due = await step.tx<DueCommission[]>`
      select c.id, c.amount_cents, c.affiliate_id, a.name affiliate_name
      from commissions c join affiliates a on a.id = c.affiliate_id
      where c.currency = ${currency} and c.status = 'approved' order by c.id for update of c`
    const shares = sharesOf(due).filter((share) => share.cents > 0)
    if (shares.length === 0) throw new ProgramError('NOTHING_TO_PAY', `Nobody is owed anything in ${currency}.`)
    const [batch] = await step.tx<{ id: number }[]>`
      insert into payout_batches (currency, method, created_at) values (${currency}, ${method}, ${step.at}) returning id`
    const payouts: Payout[] = []
    for (const share of shares)
      payouts.push(await createPayout(step, { ...share, batchId: batch!.id, currency, method }))
    return { id: batch!.id, payouts }
  })
}

interface DueCommission {
  id: number
  amount_cents: string
  affiliate_id: number
  affiliate_name: string
}

type Share = Pick<Payout, 'affiliateId' | 'affiliateName' | 'cents' | 'commissionIds'>

/** What is due by affiliate, in the order of the affiliates' ids. */
function sharesOf(due: DueCommission[]): Share[] {
  const shares = new Map<number, Share>()
  for (const { id, amount_cents, affiliate_id: affiliateId, affiliate_name: affiliateName } of due) {
    const share = shares.get(affiliateId) ?? { affiliateId, affiliateName, cents: 0, commissionIds: [] }
    share.cents += fromColumn(amount_cents)
    share.commissionIds.push(id)
    shares.set(affiliateId, share)
  }
  return [...shares.values()].sort((a, b) => a.affiliateId - b.affiliateId)
}

async function createPayout({ tx, at, emit }: Step, draft: Omit<Payout, 'id' | 'status'>): Promise<Payout> {
  const [row] = await tx<{ id: number }[]>`
    insert into payouts (batch_id, affiliate_id, amount_cents, commission_ids)
    values (${draft.batchId}, ${draft.affiliateId}, ${draft.cents}, ${draft.commissionIds}) returning id`
  const payout: Payout = { id: row!.id, ...draft, status: 'created' }
  await tx`update commissions set status = 'in_payout', payout_id = ${payout.id} where id in ${tx(draft.commissionIds)}`
  await writeJournal(tx, journal(payout, 'payout_created', 'affiliate_payable', 'payout_clearing', at))
  await emit('payout.created', { ...describe(payout), created_date: payloadDate(at) })
  return payout
}

/** The payment provider has sent the money; its reference is on the affiliate's statement. Emits `payout.processed`. */
export async function processPayout(program: Program, id: number, reference: string): Promise<Payout> {
  return inTransaction(program, async ({ tx, at, emit }) => {
    const payout = await settle(tx, id, { status: 'processed', at, reference, reason: null })
    await tx`update commissions set status = 'paid' where payout_id = ${id}`
    await writeJournal(tx, journal(payout, 'payout_processed', 'payout_clearing', 'bank', at))
    await emit('payout.processed', { ...describe(payout), reference, processed_date: payloadDate(at) })
    return payout
  })
}

/** The payment provider refused; the commissions go into the next batch. Emits `payout.failed`. */
export async function failPayout(program: Program, id: number, reason: string): Promise<Payout> {
  return inTransaction(program, async ({ tx, at, emit }) => {
    const payout = await settle(tx, id, { status: 'failed', at, reference: null, reason })
    await tx`update commissions set status = 'approved', payout_id = null where payout_id = ${id}`
    await writeJournal(tx, journal(payout, 'payout_failed', 'payout_clearing', 'affiliate_payable', at))
    // Somebody has to make the next batch, so nothing is tried again by itself.
    await emit('payout.failed', {
      ...describe(payout),
      reference: null,
      reason,
      retryable: false,
      failed_date: payloadDate(at),
    })
    return payout
  })
}

function describe(payout: Payout) {
  return {
    payout_id: payout.id,
    batch_id: payout.batchId,
    affiliate_id: payout.affiliateId,
    affiliate_name: payout.affiliateName,
    amount: toAmount(payout.cents),
    currency: payout.currency,
    commission_ids: payout.commissionIds,
    method: payout.method,
  }
}

function journal(
  { id, affiliateId, cents, currency }: Payout,
  reason: Journal['reason'],
  debit: Journal['debit'],
  credit: Journal['credit'],
  at: Date,
): Journal {
  return { reason, debit, credit, affiliateId, cents, currency, payoutId: id, at }
}

interface Settlement {
  status: 'processed' | 'failed'
  at: Date
  reference: string | null
  reason: string | null
}

async function settle(tx: TransactionSql, id: number, { status, at, reference, reason }: Settlement): Promise<Payout> {
  const updated = await tx`
    update payouts set status = ${status}, settled_at = ${at}, reference = ${reference}, failure_reason = ${reason}
    where id = ${id} and status = 'created'`
  const payout = await findPayout(tx, id)
  if (updated.count === 1) return payout
  throw new ProgramError('WRONG_STATE', `Payout ${id} is ${payout.status}; only a created one can be ${status}.`)
}

export async function findPayout(sql: Program['sql'] | TransactionSql, id: number): Promise<Payout> {
  const [row] = await sql<(Omit<Payout, 'cents'> & { cents: string })[]>`
    select p.id, p.batch_id "batchId", p.affiliate_id "affiliateId", a.name "affiliateName", p.amount_cents cents,
      b.currency, p.commission_ids "commissionIds", b.method, p.status
    from payouts p join payout_batches b on b.id = p.batch_id join affiliates a on a.id = p.affiliate_id
    where p.id = ${id}`
  if (!row) throw new ProgramError('PAYOUT_NOT_FOUND', `There is no payout ${id}.`)
  return { ...row, cents: fromColumn(row.cents) }
}
