import type { TransactionSql } from 'postgres'
import { ProgramError } from './errors.ts'
import { toAmount, toRatePoints } from './money.ts'
import { inTransaction, type Program, payloadDate } from './program.ts'

export interface AffiliateRow {
  id: number
  name: string
  email: string
  website: string | null
  status: 'pending' | 'approved' | 'rejected'
  commission_rate_points: number
  created_at: Date
  reviewed_by: string | null
  reviewed_at: Date | null
  rejection_reason: string | null
}

export interface Registration {
  name: string
  email: string
  website?: string
  /** Percent of each sale, up to two decimals. Default 15. */
  commissionRate?: number
}

/** Somebody signs up; an admin decides later. Emits `affiliate.created`. */
export async function registerAffiliate(program: Program, input: Registration): Promise<AffiliateRow> {
  const points = toRatePoints(input.commissionRate ?? 15, 'commission_rate')
  return inTransaction(program, async ({ tx, at, emit }) => {
    const [row] = await tx<AffiliateRow[]>`
      insert into affiliates (name, email, website, commission_rate_points, created_at)
      values (${input.name}, ${input.email.toLowerCase()}, ${input.website ?? null}, ${points}, ${at})
      on conflict (email) do nothing returning *`
    if (!row) throw new ProgramError('EMAIL_TAKEN', `There is already an affiliate with the address ${input.email}.`)
    await emit('affiliate.created', {
      affiliate_id: row.id,
      affiliate_name: row.name,
      affiliate_email: row.email,
      website: row.website,
      created_date: payloadDate(at),
    })
    return row
  })
}

/** Emits `affiliate.approved`; from now on the affiliate can have links, codes and commissions. */
export async function approveAffiliate(program: Program, id: number, by: string): Promise<AffiliateRow> {
  return inTransaction(program, async ({ tx, at, emit }) => {
    const row = await review(tx, id, { status: 'approved', by, at, reason: null })
    await emit('affiliate.approved', {
      affiliate_id: row.id,
      affiliate_name: row.name,
      affiliate_email: row.email,
      commission_rate: toAmount(row.commission_rate_points),
      approved_by: by,
      approved_date: payloadDate(at),
    })
    return row
  })
}

/** Emits `affiliate.rejected`. */
export async function rejectAffiliate(program: Program, id: number, by: string, reason: string): Promise<AffiliateRow> {
  return inTransaction(program, async ({ tx, at, emit }) => {
    const row = await review(tx, id, { status: 'rejected', by, at, reason })
    await emit('affiliate.rejected', {
      affiliate_id: row.id,
      affiliate_name: row.name,
      affiliate_email: row.email,
      reason,
      rejected_by: by,
      rejected_date: payloadDate(at),
    })
    return row
  })
}

interface Review {
  status: 'approved' | 'rejected'
  by: string
  at: Date
  reason: string | null
}

/** One statement decides: of two admins at once, the second finds the application no longer pending. */
async function review(tx: TransactionSql, id: number, { status, by, at, reason }: Review): Promise<AffiliateRow> {
  const [row] = await tx<AffiliateRow[]>`
    update affiliates set status = ${status}, reviewed_by = ${by}, reviewed_at = ${at}, rejection_reason = ${reason}
    where id = ${id} and status = 'pending' returning *`
  if (row) return row
  const found = await findAffiliate(tx, id)
  throw new ProgramError('WRONG_STATE', `Affiliate ${id} is ${found.status}; only a pending one can be ${status}.`)
}

export async function findAffiliate(
  sql: Pick<Program, 'sql'>['sql'] | TransactionSql,
  id: number,
): Promise<AffiliateRow> {
  const [row] = await sql<AffiliateRow[]>`select * from affiliates where id = ${id}`
  if (!row) throw new ProgramError('AFFILIATE_NOT_FOUND', `There is no affiliate ${id}.`)
  return row
}

/** The affiliate, if approved, and kept so until the transaction ends. */
export async function requireApproved(tx: TransactionSql, id: number): Promise<AffiliateRow> {
  const [row] = await tx<AffiliateRow[]>`select * from affiliates where id = ${id} for share`
  if (!row) throw new ProgramError('AFFILIATE_NOT_FOUND', `There is no affiliate ${id}.`)
  if (row.status !== 'approved')
    throw new ProgramError('WRONG_STATE', `Affiliate ${id} is ${row.status}, not approved.`)
  return row
}
