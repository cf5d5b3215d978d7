import type { ISql, Sql, TransactionSql } from 'postgres'
import { fromColumn } from './money.ts'

/**
 * Double-entry bookkeeping: every journal adds up to zero, so the whole ledger does. Debits are positive, credits
 * negative.
 *
 *     commission approved   commission_expense +   affiliate_payable −     we owe it to the affiliate
 *     payout created        affiliate_payable +    payout_clearing −       it is on its way
 *     payout processed      payout_clearing +      bank −                  it has left the bank
 *     payout failed         payout_clearing +      affiliate_payable −     we owe it again
 */
export type LedgerAccount = 'commission_expense' | 'affiliate_payable' | 'payout_clearing' | 'bank'

export interface Journal {
  reason: 'commission_approved' | 'payout_created' | 'payout_processed' | 'payout_failed'
  debit: LedgerAccount
  credit: LedgerAccount
  affiliateId: number
  cents: number
  currency: string
  commissionId?: number
  payoutId?: number
  at: Date
}

/** Writes one journal of two entries; nothing for an amount of zero (a commission at a rate of 0 %). */
export async function writeJournal(tx: TransactionSql, journal: Journal): Promise<void> {
  if (journal.cents === 0) return
  const { affiliateId, currency, cents } = journal
  await tx`
    with journal as (
      insert into ledger_journals (reason, commission_id, payout_id, written_at)
      values (${journal.reason}, ${journal.commissionId ?? null}, ${journal.payoutId ?? null}, ${journal.at})
      returning id
    )
    insert into ledger_entries (journal_id, account, affiliate_id, currency, amount_cents)
    select journal.id, entry.account, ${affiliateId}, ${currency}, entry.cents
    from journal, (values (${journal.debit}, ${cents}::bigint), (${journal.credit}, -${cents}::bigint)) entry (account, cents)`
}

/** What the books say, in cents. */
export interface Balance {
  /** Approved and not yet paid out: what the affiliate can still be paid. */
  payable: number
  /** In payouts that are neither processed nor failed. */
  inPayout: number
  paid: number
  /** Everything ever approved: payable + inPayout + paid. */
  earned: number
}

/** The balance of one affiliate in one currency, from the ledger alone. */
export async function balanceOf(sql: ISql, affiliateId: number, currency: string): Promise<Balance> {
  const rows = await sql<{ account: LedgerAccount; cents: string }[]>`
    select account, sum(amount_cents) cents from ledger_entries
    where affiliate_id = ${affiliateId} and currency = ${currency} group by account`
  const sums = new Map(rows.map((row) => [row.account, fromColumn(row.cents)]))
  const sum = (account: LedgerAccount) => sums.get(account) ?? 0
  return {
    payable: 0 - sum('affiliate_payable'),
    inPayout: 0 - sum('payout_clearing'),
    paid: 0 - sum('bank'),
    earned: sum('commission_expense'),
  }
}

/** One way in which the books and the business tables do not agree. */
export interface LedgerFault {
  rule: string
  affiliateId: number | null
  expected: number
  found: number
}

/**
 * Compares the ledger with the commissions and payouts, in one statement and so in one snapshot; an empty list says that
 * everything adds up. A shop runs this every night; the tests run it after every step.
 */
export async function auditLedger(sql: Sql): Promise<LedgerFault[]> {
  const rows = await sql<{ rule: string; affiliate_id: number | null; expected: string; found: string }[]>`
    with booked as (
      select affiliate_id, currency,
        coalesce(sum(amount_cents) filter (where account = 'commission_expense'), 0) earned,
        coalesce(-sum(amount_cents) filter (where account = 'affiliate_payable'), 0) payable,
        coalesce(-sum(amount_cents) filter (where account = 'payout_clearing'), 0) in_payout,
        coalesce(-sum(amount_cents) filter (where account = 'bank'), 0) paid
      from ledger_entries group by affiliate_id, currency
    ), owed as (
      select affiliate_id, currency,
        coalesce(sum(amount_cents) filter (where status in ('approved', 'in_payout', 'paid')), 0) earned,
        coalesce(sum(amount_cents) filter (where status = 'approved'), 0) payable,
        coalesce(sum(amount_cents) filter (where status = 'in_payout'), 0) in_payout,
        coalesce(sum(amount_cents) filter (where status = 'paid'), 0) paid
      from commissions group by affiliate_id, currency
    ), compared as (
      select coalesce(o.affiliate_id, b.affiliate_id) affiliate_id, o.earned o_earned, o.payable o_payable,
        o.in_payout o_in_payout, o.paid o_paid, b.earned b_earned, b.payable b_payable, b.in_payout b_in_payout, b.paid b_paid
      from owed o full join booked b using (affiliate_id, currency)
    ), paying as (
      select p.id, p.affiliate_id, p.status, p.amount_cents, p.commission_ids, coalesce(sum(c.amount_cents), 0) cents,
        coalesce(array_agg(c.id order by c.id) filter (where c.id is not null), '{}') ids
      from payouts p left join commissions c on c.payout_id = p.id group by p.id
    ), faults as (
      select 'the ledger adds up to zero' rule, null::int affiliate_id, 0 expected, coalesce(sum(amount_cents), 0) found from ledger_entries
      union all
      select 'journal ' || journal_id || ' adds up to zero', null, 0, sum(amount_cents) from ledger_entries group by journal_id
      union all
      select 'earned = approved, in payout or paid commissions', affiliate_id, coalesce(o_earned, 0), coalesce(b_earned, 0) from compared
      union all
      select 'payable = approved commissions', affiliate_id, coalesce(o_payable, 0), coalesce(b_payable, 0) from compared
      union all
      select 'in payout = commissions in payout', affiliate_id, coalesce(o_in_payout, 0), coalesce(b_in_payout, 0) from compared
      union all
      select 'paid = paid commissions', affiliate_id, coalesce(o_paid, 0), coalesce(b_paid, 0) from compared
      union all
      select 'payout ' || id || ' is the sum of its commissions', affiliate_id, amount_cents, cents from paying where status <> 'failed'
      union all
      select 'payout ' || id || ' names its commissions', affiliate_id, cardinality(commission_ids),
        (select count(*) from unnest(commission_ids) id where id = any(ids)) from paying where status <> 'failed'
      union all
      select 'failed payout ' || id || ' holds no commission', affiliate_id, 0, cardinality(ids) from paying where status = 'failed'
      union all
      select 'code ' || c.code || ' counts its redemptions', affiliate_id, redemptions_count,
        (select count(*) from redemptions where code_id = c.id) from codes c
    )
    select * from faults where expected <> found order by rule`
  return rows.map((row) => ({
    rule: row.rule,
    affiliateId: row.affiliate_id,
    expected: fromColumn(row.expected),
    found: fromColumn(row.found),
  }))
}
